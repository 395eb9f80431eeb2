"""`torch.cuda.tunable`: settings, files, and on a GPU, what is chosen and kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import _C
from vibetensor.tuning import products

pytestmark = pytest.mark.unsanitized("times a library's kernels")

ROOT = Path(__file__).parents[2]

tunable = torch.cuda.tunable

SOLUTION = "CublasLt_66_splits_1_" + "0123456789abcdef" * 8
ROW = products.Row("GemmTunableOp_bfloat16_TN", "tn_64_64_64_ld_64_64_64", SOLUTION, 0.5, 0.75)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    tunable.enable(False)
    tunable.tuning_enable()
    tunable.packaged_enable()
    tunable.set_max_tuning_duration(30)
    tunable.set_max_tuning_iterations(100)
    tunable.set_filename("")
    _C.clear_products()


def test_defaults_are_those_of_pytorch() -> None:
    assert not tunable.is_enabled()
    assert tunable.tuning_is_enabled()
    assert tunable.packaged_is_enabled()
    assert tunable.get_max_tuning_duration() == 30
    assert tunable.get_max_tuning_iterations() == 100
    assert tunable.get_filename() == "tunableop_results0.csv"


def test_settings_keep_what_they_are_given() -> None:
    tunable.tuning_enable(False)
    tunable.packaged_enable(False)
    tunable.set_max_tuning_duration(7)
    tunable.set_max_tuning_iterations(9)
    assert not tunable.tuning_is_enabled()
    assert not tunable.packaged_is_enabled()
    assert tunable.get_max_tuning_duration() == 7
    assert tunable.get_max_tuning_iterations() == 9
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        tunable.set_max_tuning_duration(-1)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        tunable.set_max_tuning_iterations(-1)
    tunable.set_filename("some/results.csv", insert_device_ordinal=True)
    assert tunable.get_filename() == "some/results0.csv"


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_without_a_gpu_there_is_nothing_to_tune(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="there is nothing to tune"):
        tunable.enable()
    assert tunable.is_enabled()
    assert tunable.get_results() == tunable.get_untuned() == ()
    assert tunable.get_validators() == (("VT_VERSION", vibetensor.__version__),)
    assert tunable.tune_untuned() == 0
    assert not tunable.write_file(str(tmp_path / "none.csv"))
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "table.csv"
    products.write(file, products.Table({}, [ROW]))
    with pytest.warns(RuntimeWarning, match="there is no GPU"):
        assert not tunable.read_file(str(file))


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    table = products.Table({"A": "1", "GPU_NAME": "Some GPU, or other"}, [ROW])
    products.write(tmp_path / "table.csv", table)
    assert products.read(tmp_path / "table.csv") == table


def test_rows_may_lack_times(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("GemmTunableOp_float32_NN,nn_1_2_3,Default\n")
    assert products.read(file).rows == [
        products.Row("GemmTunableOp_float32_NN", "nn_1_2_3", "Default", 0.0, 0.0)
    ]


@pytest.mark.parametrize("line", ["a,b", "a,b,Default,soon", "a,b,Default,-1", "a,b,c,1,nan"])
def test_lines_that_are_no_rows_are_refused(line: str, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text(f"Validator,A,1\n{line}\n")
    with pytest.raises(ValueError, match=r"line 2 of .*table\.csv is no row"):
        products.read(file)


@pytest.mark.parametrize("solution", ["CublasLt_1", "CublasLt_1_" + "g" * 128, "", SOLUTION + "0"])
def test_solutions_that_no_library_gave_are_refused(solution: str) -> None:
    with pytest.raises(ValueError, match="is no solution"):
        _C.add_products("Some GPU", 1, [ROW, ROW._replace(solution=solution)])


def test_the_packaged_tables_can_be_read() -> None:
    for file in products.packaged_files():
        validators, rows = products.read(file)
        assert set(validators) >= {products.LIBRARY, products.GPU}
        assert rows
        _C.add_packaged_products("No GPU has this name", 1, rows)  # solutions are well formed


# -- on a GPU --------------------------------------------------------------------------------------


def operands(rows: int = 512, inner: int = 1024, columns: int = 256) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return (
        torch.randn(rows, inner, device="cuda").bfloat16(),
        torch.randn(columns, inner, device="cuda").bfloat16(),
        torch.randn(columns, device="cuda").bfloat16(),
    )


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.float().cpu().numpy().tobytes()


def linear() -> torch.Tensor:
    return torch.nn.functional.linear(*operands())


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    """Enabled, with a file of its own and little time."""
    tunable.packaged_enable(False)
    tunable.set_max_tuning_iterations(10)
    tunable.set_filename(str(tmp_path / "results.csv"))
    tunable.enable()
    return tmp_path / "results.csv"


@pytest.mark.cuda
def test_a_problem_is_tuned_once_and_close_to_the_default(quick: Path) -> None:
    tunable.enable(False)
    before = linear()
    tunable.enable()
    tuned = linear()
    (row,) = tunable.get_results()
    assert row[0] == "GemmAndBiasTunableOp_bfloat16_TN"
    assert row[1].startswith("tn_256_512_1024_ld_1024_1024_256")
    assert row[3] > 0
    np.testing.assert_allclose(
        tuned.float().cpu().numpy(), before.float().cpu().numpy(), rtol=2e-2, atol=0.3
    )
    assert bits(linear()) == bits(tuned)
    assert len(tunable.get_results()) == 1
    tunable.enable(False)
    assert bits(linear()) == bits(before)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_other_dtypes_batches_and_sums(quick: Path, dtype: torch.dtype) -> None:
    a = torch.randn(6, 128, 96, device="cuda").to(dtype)
    b = torch.randn(6, 96, 64, device="cuda").to(dtype)
    before = _C.get_float32_products()
    _C.set_float32_products("ieee")
    try:
        out = torch.bmm(a, b)
    finally:
        _C.set_float32_products(before)
    (row,) = tunable.get_results()
    assert row[0].startswith("GemmStridedBatchedTunableOp_")
    wanted = a.double().cpu().numpy() @ b.double().cpu().numpy()
    np.testing.assert_allclose(out.double().cpu().numpy(), wanted, rtol=1e-2, atol=1e-1)


@pytest.mark.cuda
def test_a_file_gives_the_same_choice_and_bits(quick: Path) -> None:
    tuned = linear()
    assert tunable.write_file()
    results = tunable.get_results()
    _C.clear_products()
    tunable.tuning_enable(False)
    assert tunable.get_results() == ()
    assert tunable.read_file()
    assert [row[:3] for row in tunable.get_results()] == [row[:3] for row in results]
    assert bits(linear()) == bits(tuned)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["VT_VERSION", "CUBLASLT_VERSION", "GPU_NAME"])
def test_a_file_for_another_machine_is_left_aside(quick: Path, name: str) -> None:
    linear()
    tunable.write_file()
    _C.clear_products()
    validators, rows = products.read(quick)
    products.write(quick, products.Table({**validators, name: "other"}, rows))
    with pytest.warns(RuntimeWarning, match=f"its {name} is other, here it is"):
        assert not tunable.read_file()
    assert tunable.get_results() == ()


@pytest.mark.cuda
def test_a_choice_that_the_library_refuses_is_an_error(quick: Path) -> None:
    linear()
    tunable.write_file()
    validators, rows = products.read(quick)
    damaged = [row._replace(solution="CublasLt_1_splits_1_" + "f" * 128) for row in rows]
    products.write(quick, products.Table(validators, damaged))
    ran = run(
        f"""if True:
        import vibetensor.torch as torch
        torch.cuda.tunable.set_filename({str(quick)!r})
        torch.cuda.tunable.enable()
        x = torch.randn(512, 1024, device="cuda").bfloat16()
        weight = torch.randn(256, 1024, device="cuda").bfloat16()
        torch.nn.functional.linear(x, weight, torch.zeros(256, device="cuda").bfloat16())
        """,
        quick.parent,
    )
    assert ran.returncode == 1
    assert "refuses the own choice" in ran.stderr


@pytest.mark.cuda
def test_a_capture_times_nothing(quick: Path) -> None:
    x, weight, bias = operands()
    torch.mm(x, x.t())  # opens the library
    count = len(tunable.get_results())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = torch.nn.functional.linear(x, weight, bias)
    assert len(tunable.get_results()) == count
    assert "GemmAndBiasTunableOp_bfloat16_TN" in [op for op, _ in tunable.get_untuned()]
    graph.replay()
    tunable.enable(False)
    assert bits(out) == bits(torch.nn.functional.linear(x, weight, bias))
    tunable.enable()
    assert tunable.tune_untuned() >= 1
    assert len(tunable.get_results()) > count
    assert tunable.get_untuned() == ()


@pytest.mark.cuda
def test_an_eager_call_after_a_capture_tunes(quick: Path) -> None:
    x, weight, bias = operands(rows=384)
    torch.mm(x, x.t())
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        torch.nn.functional.linear(x, weight, bias)
    count = len(tunable.get_results())
    torch.nn.functional.linear(x, weight, bias)
    assert len(tunable.get_results()) == count + 1


@pytest.mark.cuda
def test_results_are_written_at_exit(tmp_path: Path) -> None:
    program = """if True:
        import vibetensor.torch as torch
        torch.cuda.tunable.packaged_enable(False)
        torch.cuda.tunable.set_max_tuning_iterations(5)
        torch.cuda.tunable.enable()
        a = torch.ones(256, 256, device="cuda", dtype=torch.bfloat16)
        a @ a
    """
    ran = run(program, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert len(products.read(tmp_path / "tunableop_results0.csv").rows) == 1


@pytest.mark.cuda
def test_the_packaged_table_counts_without_being_asked_for(tmp_path: Path) -> None:
    here = dict(tunable.get_validators())
    names = (products.GPU, products.LIBRARY)
    tables = [products.read(file) for file in products.packaged_files()]
    tables = [t for t in tables if all(t.validators[name] == here[name] for name in names)]
    if not tables:
        pytest.skip(f"no table is packaged for {here}")
    plain = [
        row
        for row in tables[0].rows
        if row.op == "GemmTunableOp_bfloat16_NN" and row.solution != "Default"
    ]
    n, m, k = min(([int(each) for each in row.params.split("_")[1:4]] for row in plain), key=sum)
    a = torch.randn(m, k, device="cuda").bfloat16()
    b = torch.randn(k, n, device="cuda").bfloat16()
    tunable.set_filename(str(tmp_path / "none.csv"))
    tunable.enable()
    with_table = torch.mm(a, b)
    assert tunable.get_results() == ()  # it has a choice: nothing was timed
    tunable.packaged_enable(False)
    tunable.enable(False)
    np.testing.assert_allclose(
        with_table.float().cpu().numpy(),
        torch.mm(a, b).float().cpu().numpy(),
        rtol=2e-2,
        atol=0.02 * k**0.5,
    )
