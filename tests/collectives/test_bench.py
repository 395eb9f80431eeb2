"""`vibetensor bench allreduce`: columns, JSON, and that a wrong value is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vibetensor import cli
from vibetensor.cli import bench, collective_case
from vibetensor.cli.collective_case import DTYPES, Case
from vibetensor.cli.collective_kinds import KINDS as COLLECTIVES
from vibetensor.collectives import Communicator
from vibetensor.fabric import parse_devices

KINDS = ["cpu:3", pytest.param("cuda:0", marks=pytest.mark.cuda)]
TWO_GPUS = pytest.mark.cuda(devices=2)


@pytest.mark.parametrize("devices", KINDS)
def test_the_table_has_the_columns_of_nccl_tests(
    devices: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(
        f"bench allreduce --devices {devices} --ranks 3 -b 4 -e 64K -f 16 -n 2 -w 1".split()
    )
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    header = next(line for line in lines if "redop" in line)
    for column in ("size", "type", "root", "time", "p99", "busbw", "#wrong", "algorithm"):
        assert column in header
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    assert [row[0] for row in rows] == ["4", "64", "1024", "16384"]
    assert all(row[10] == row[16] == "0" for row in rows)


@pytest.mark.parametrize("devices", KINDS)
def test_every_type_and_op_is_right(devices: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    arguments = f"bench allreduce --devices {devices} --ranks 3 -b 8 -e 40008 -i 20000 -n 1 -w 0"
    assert cli.main([*arguments.split(), "-d", "all", "-o", "all", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert len(found["rows"]) == len(DTYPES) * 5 * 3
    for row in found["rows"]:
        assert row["out_of_place"]["wrong"] == row["in_place"]["wrong"] == 0, row
    for key in ("date", "commit", "hardware", "driver", "cuda", "ranks", "devices"):
        assert key in found


@pytest.mark.parametrize(
    ("devices", "option", "wanted"),
    [
        ("cpu:2", "", False),
        ("cpu:2", "--symmetric", True),
        pytest.param("cuda:0", "--symmetric", True, marks=pytest.mark.cuda),
        pytest.param("cuda:0,1", "", True, marks=TWO_GPUS),
        pytest.param("cuda:0,1", "--no-symmetric", False, marks=TWO_GPUS),
    ],
)
def test_tensors_in_symmetric_memory(
    devices: str, option: str, wanted: bool, tmp_path: Path
) -> None:
    file = tmp_path / "result.json"
    arguments = f"bench allreduce --devices {devices} --ranks 2 -b 4 -e 4M -f 1024 -n 2 {option}"
    assert cli.main([*arguments.split(), "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found["symmetric"] is wanted
    assert all(
        row[way]["wrong"] == 0 for row in found["rows"] for way in ("out_of_place", "in_place")
    )


@TWO_GPUS
def test_nccl_beside_our_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.json"
    arguments = "bench allreduce --devices cuda:0,1 -b 1K -e 1M -f 32 -n 5 --compare nccl"
    assert cli.main([*arguments.split(), "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found["nccl"].startswith("2.")
    for row in found["rows"]:
        for way in ("out_of_place", "in_place"):
            part = row[way]
            assert part["ratio"] == pytest.approx(part["time_us"] / part["nccl_us"], rel=1e-2)
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if "redop" in line).count("ratio") == 2
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    assert all(len(row) == 23 for row in rows)


@pytest.mark.parametrize("option", ["--compare", "--algorithm"])
def test_nccl_wants_gpus(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "allreduce", "--devices", "cpu:2", option, "nccl"]) == 1
    assert f"{option} nccl needs GPUs" in capsys.readouterr().err


def test_json_on_stdout_is_nothing_but_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--devices", "cpu:2", "-b", "4", "-e", "4", "-n", "1", "--json", "-"]
    assert cli.main(["bench", "allreduce", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["ranks"] == 2


@pytest.mark.parametrize("devices", KINDS)
@pytest.mark.parametrize("title", sorted(bench.KINDS))
def test_every_collective(devices: str, title: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    arguments = f"bench {title} --devices {devices} --ranks 4 -b 8 -e 80008 -i 40000 -n 2 -w 1"
    assert cli.main([*arguments.split(), "-d", "bfloat16,int8", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found["benchmark"] == title
    for row in found["rows"]:
        assert row["out_of_place"]["wrong"] == 0, row
        assert row["in_place"] is None or row["in_place"]["wrong"] == 0, row


@pytest.mark.cuda
@pytest.mark.parametrize("title", sorted(bench.KINDS))
def test_calls_in_a_graph(title: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    arguments = f"bench {title} --devices cuda:0 --ranks 4 -b 64K -e 64K -n 2 -G 4"
    assert cli.main([*arguments.split(), "--json", str(file)]) == 0
    row = json.loads(file.read_text())["rows"][0]
    assert 0 < row["out_of_place"]["p50_us"] <= row["out_of_place"]["p99_us"]


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "picture.png"
    arguments = f"bench allreduce --devices cpu:2 -b 4 -e 1K -n 1 --plot {file}"
    assert cli.main(arguments.split()) == 0
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("where", ["by numpy", "on the device"])
@pytest.mark.parametrize("type_", ["float", "bfloat16"])
@pytest.mark.parametrize("count", [1000, 65521, 3 * 65521 + 7])
def test_a_wrong_value_is_counted(
    monkeypatch: pytest.MonkeyPatch, where: str, type_: str, count: int
) -> None:
    if where == "on the device":
        monkeypatch.setattr(collective_case, "_LARGE", 1)
        monkeypatch.setattr(collective_case, "_PIECE", 2)
    bytes_ = count * (4 if type_ == "float" else 2)
    for kind in (COLLECTIVES["allreduce"], COLLECTIVES["all_gather"]):
        case = Case(Communicator(parse_devices("cpu:2")), bytes_, type_, "sum", kind=kind)
        inputs, outputs = case._inputs(), case._outputs()
        case._call(case.communicator, inputs, outputs)
        assert case._wrong(outputs) == 0
        outputs[1][17] += 1.0
        outputs[0][-1] = float("nan")
        assert case._wrong(outputs) == 2


@pytest.mark.parametrize(
    ("text", "bytes_"), [("4", 4), ("64K", 65536), ("1m", 2**20), ("2G", 2**31), ("8KB", 8192)]
)
def test_sizes(text: str, bytes_: int) -> None:
    assert bench.size(text) == bytes_


@pytest.mark.parametrize(
    "arguments",
    [
        "-d float128",
        "-o mean",
        "-b 8 -e 4",
        "-f 1",
        "--devices gpu",
        "-g 1 --devices cpu:2",
        "--devices cpu:2 --ranks 40",
        "--devices cpu:2 -G 5",
        "--devices cpu:2 --compare nccl",
    ],
)
def test_bad_arguments_are_one_line(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "allreduce", *arguments.split()]) == 1
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1 and not shown.out


@pytest.mark.parametrize("title", ["all_reduce", "allgather", "alltoall", "reducescatter"])
def test_names_as_other_tools_write_them(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", title, "--devices", "cpu:2", "-e", "16", "-n", "1"]) == 0
    assert "0 OK" in capsys.readouterr().out
