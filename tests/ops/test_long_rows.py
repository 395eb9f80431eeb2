"""Reductions, scans and look-ups over few long rows, many short ones and columns."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch as pt
from operator_cases import to_ours, to_torch
from test_norm_rows import close, given, places
from test_softmax_rows import twice
from vibetensor.torch.nn import functional as F

import vibetensor.torch as vt

SHAPES = [
    (1, 1_000_003), (1, 400_000), (3, 70_001), (5000, 40), (5000, 1032), (8192, 256), (40, 1030),
    (7, 1),
]  # fmt: skip


def put(place: str, t: pt.Tensor) -> Any:
    return to_ours(t).to(place)


@places
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "var"])
@pytest.mark.parametrize("shape", SHAPES)
def test_reductions(place: str, shape: tuple[int, int], name: str) -> None:
    for dtype in ("float32", "bfloat16"):
        x = given(*shape, dtype=dtype, seed=1) + (3 if name == "var" else 0)
        for dim in (0, 1):
            if name == "var" and shape[dim] == 1:
                continue
            mine = put(place, x)
            (got,) = twice(lambda m=mine, d=dim: [getattr(vt, name)(m, dim=d)])
            close(got, getattr(x.double(), name)(dim=dim), dtype)


@places
@pytest.mark.parametrize("shape", SHAPES)
def test_extremes_and_where_they_are(place: str, shape: tuple[int, int]) -> None:
    for dtype, special in (
        ("float32", False), ("bfloat16", False), ("float32", True), ("bfloat16", True),
    ):  # fmt: skip
        x = given(*shape, dtype=dtype, seed=2)
        if special and x.numel() > 100:
            x.view(-1)[x.numel() // 3] = float("nan")
            x.view(-1)[x.numel() // 2] = float("inf")
        x.view(-1)[-1] = x.view(-1)[0]  # equal elements: the first one counts
        for dim in (0, 1):
            for pick in ("argmax", "argmin"):
                mine = to_torch(getattr(vt, pick)(put(place, x), dim=dim))
                values = x.gather(dim, mine.unsqueeze(dim))
                best = getattr(x, pick)(dim=dim)
                expected = x.gather(dim, best.unsqueeze(dim))
                assert pt.equal(values.isnan(), expected.isnan())
                assert pt.equal(values.nan_to_num(), expected.nan_to_num())
                # Nothing before it is as good.
                rows = x.movedim(dim, -1).double()
                same = (rows == values.movedim(dim, -1).double()) | rows.isnan()
                assert pt.equal(same.long().argmax(-1), mine) or special


@places
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 65_536), (1, 17), (300, 257)])
def test_the_first_of_the_extremes(place: str, shape: tuple[int, int], start: int) -> None:
    """As NumPy, for rows full of equal elements, of NaN, of infinities, aligned or not."""
    rng = np.random.default_rng(3)
    rows, n = shape
    kinds = {
        "few": rng.integers(0, 3, shape).astype(np.float32),
        "zeros": np.where(rng.random(shape) < 0.5, np.float32(0), np.float32(-0.0)),
        "infinite": np.full(shape, -np.inf, dtype=np.float32),
        "late": np.zeros(shape, dtype=np.float32),
        "nan": rng.standard_normal(shape).astype(np.float32),
    }
    kinds["late"][:, -1], kinds["late"][:, n // 2] = 1, -1
    kinds["nan"][:, n // 3], kinds["nan"][:, n - 1] = np.nan, np.nan
    for name, values in kinds.items():
        for dtype in ("float32", "bfloat16", "float16"):
            x = pt.from_numpy(values).to(getattr(pt, dtype))
            flat = put(place, pt.cat([pt.zeros(start, dtype=x.dtype), x.reshape(-1)]))
            mine = flat[start:].reshape(rows, n)
            exact = x.float().numpy()
            for pick, expected in (("max", exact.argmax(1)), ("min", exact.argmin(1))):
                found, at = getattr(vt, pick)(mine, dim=1)
                at = at.cpu().numpy()
                assert (at == expected).all(), (name, dtype, pick)
                taken = np.take_along_axis(exact, at[:, None], 1)[:, 0]
                got = to_torch(found.cpu()).float().numpy()
                np.testing.assert_array_equal(got, taken)
                np.testing.assert_array_equal(np.signbit(got), np.signbit(taken))


@places
@pytest.mark.parametrize("shape", SHAPES)
def test_extremes_of_what_is_not_finite(place: str, shape: tuple[int, int]) -> None:
    for dtype in ("float32", "bfloat16", "float16", "float64"):
        x = given(*shape, dtype=dtype, seed=2)
        flat = x.view(-1)
        flat[x.numel() // 3] = float("nan")
        flat[x.numel() // 2], flat[x.numel() // 5] = float("inf"), -float("inf")
        for dim in (0, 1):
            for name in ("amax", "amin"):
                found = to_torch(getattr(vt, name)(put(place, x), dim=dim).cpu())
                expected = getattr(x, name)(dim=dim)
                assert pt.equal(found.isnan(), expected.isnan())
                assert pt.equal(found.nan_to_num(), expected.nan_to_num())


@places
@pytest.mark.parametrize(
    "shape", [(1, 5_000_011), (2, 4_200_000), (1, 2_097_152), (1, 2_097_153), (3, 70_001)]
)
def test_running_sums_of_whole_numbers(place: str, shape: tuple[int, int]) -> None:
    """Exact, however a row is cut."""
    x = pt.randint(-3, 4, shape, generator=pt.Generator().manual_seed(1))
    expected = x.cumsum(1)
    for dtype in ("int64",) if place == "cpu" else ("int64", "int32", "float64", "float32"):
        typed = x.to(getattr(pt, dtype))
        (got,) = twice(lambda typed=typed: [vt.cumsum(put(place, typed), dim=1)])
        assert pt.equal(to_torch(got.cpu()).long(), expected)


@places
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize(
    "shape",
    [(1, 5_000_011), (3, 1_000_008), (1, 33_000_000), (90, 65_544), (1, 16_385), (2, 16_384)],
)
def test_running_sums_that_are_exact(place: str, shape: tuple[int, int], dtype: str) -> None:
    """Whatever their order: all sums are whole numbers that the type has."""
    if place == "cpu" and shape[1] > 2_000_000:
        pytest.skip("the same code for a shorter row")
    sums = pt.randint(-100, 101, shape, generator=pt.Generator().manual_seed(2))
    x = sums.diff(dim=1, prepend=pt.zeros(shape[0], 1, dtype=pt.int64)).to(getattr(pt, dtype))
    (got,) = twice(lambda: [vt.cumsum(put(place, x), dim=1)])
    assert pt.equal(to_torch(got.cpu()), sums.to(x.dtype))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_running_sums_past_what_is_not_finite(dtype: str) -> None:
    x = pt.zeros(2, 3_000_000, dtype=getattr(pt, dtype))
    x[0, 1_234_567], x[1, 2_000_001], x[1, 2_500_000] = float("nan"), float("inf"), -float("inf")
    got = to_torch(vt.cumsum(put("cuda", x), dim=1).cpu())
    assert not got[0, :1_234_567].any() and bool(got[0, 1_234_567:].isnan().all())
    assert not got[1, :2_000_001].any() and bool(got[1, 2_000_001:2_500_000].isinf().all())
    assert bool(got[1, 2_500_000:].isnan().all())


@places
@pytest.mark.parametrize("shape", SHAPES)
def test_running_sums(place: str, shape: tuple[int, int]) -> None:
    for dtype in ("float64", "float32"):
        x = given(*shape, dtype=dtype, seed=3)
        for dim in (0, 1):
            (got,) = twice(lambda d=dim, x=x: [vt.cumsum(put(place, x), dim=d)])
            close(got, x.double().cumsum(dim), dtype)
    ones = vt.ones(*shape, dtype=vt.int64, device=place)
    assert int(vt.cumsum(ones, dim=1)[-1, -1].item()) == shape[1]


@places
@pytest.mark.parametrize("sizes", [(64, 64), (100, 36), (33, 65), (3, 130, 34), (2, 66, 7)])
def test_transposed_copies(place: str, sizes: tuple[int, ...]) -> None:
    for dtype in ("bfloat16", "float32", "int8"):
        x = (given(*sizes, dtype="float32", seed=4) * 50).to(getattr(pt, dtype))
        turned = put(place, x).transpose(-1, -2).contiguous()
        assert pt.equal(to_torch(turned), x.transpose(-1, -2))
        shifted = put(place, x)[..., 1:].transpose(-1, -2).contiguous()
        assert pt.equal(to_torch(shifted), x[..., 1:].transpose(-1, -2))


@places
@pytest.mark.parametrize("n", [64, 128, 256, 384, 512, 768, 1024, 1280, 2048])
@pytest.mark.parametrize("picks", [1, 7, 1001])
def test_look_ups(place: str, picks: int, n: int) -> None:
    index = pt.randint(0, 50, (picks,), generator=pt.Generator().manual_seed(n))
    for dtype in ("float32", "bfloat16", "float64", "uint8"):
        table = (given(51, n, dtype="float32", seed=8) * 20).to(getattr(pt, dtype))
        for start in (0, 1):  # the second: not aligned, unless rows are long enough
            mine = put(place, table.view(-1))[start : start + 50 * n].reshape(50, n)
            expected = table.view(-1)[start : start + 50 * n].reshape(50, n)[index]
            assert pt.equal(to_torch(mine[put(place, index)].cpu()), expected)


@places
@pytest.mark.parametrize("n", [1, 7, 64, 256, 512, 520, 768])
@pytest.mark.parametrize("classes", [3, 300, 70000])
def test_gradient_of_a_look_up(place: str, classes: int, n: int) -> None:
    generator = pt.Generator().manual_seed(classes)
    index = (pt.rand(40, 50, generator=generator) ** 3 * classes).long()  # some far more often
    for dtype in ("float32", "bfloat16"):
        seed = given(40, 50, n, dtype=dtype, seed=5)
        weight = given(classes, n, dtype=dtype, seed=6)

        def run(weight: Any = weight, seed: Any = seed) -> list[Any]:
            mine = put(place, weight).requires_grad_()
            vt.autograd.backward([F.embedding(put(place, index), mine)], [put(place, seed)])
            return [mine.grad]

        (got,) = twice(run)
        expected = pt.zeros(classes, n, dtype=pt.float64)
        expected.index_add_(0, index.view(-1), seed.double().view(-1, n))
        if dtype == "float32" or place == "cuda":
            close(got, expected, dtype)


@places
@pytest.mark.parametrize(
    ("picks", "often"), [(1, 1), (500, 1), (8192, 3), (16384, 300), (16385, 3)]
)
def test_gradient_of_a_look_up_of_few(place: str, picks: int, often: int) -> None:
    """All picks are of few rows, among many that nobody asks for."""
    index = pt.arange(picks) * 7919 % often * 2 + 5
    for n, dtype in itertools.product((8, 264), ("float32", "bfloat16", "float16")):
        seed = given(picks, n, dtype=dtype, seed=7)
        weight = pt.zeros(1000, n, dtype=seed.dtype)

        def run(weight: Any = weight, seed: Any = seed) -> list[Any]:
            mine = put(place, weight).requires_grad_()
            vt.autograd.backward([F.embedding(put(place, index), mine)], [put(place, seed)])
            return [mine.grad]

        (got,) = twice(run)
        expected = pt.zeros(1000, n, dtype=pt.float64).index_add_(0, index, seed.double())
        if dtype == "float32" or place == "cuda":
            close(got, expected, dtype)


@places
@pytest.mark.parametrize("count", [1, 5, 4096, 100_001])
def test_dropout_drops_the_same_again(place: str, count: int) -> None:
    for dtype in ("float64", "float32", "bfloat16"):
        for offset in (0, 1):
            x = put(place, pt.ones(count + offset, dtype=getattr(pt, dtype)))[offset:]
            x = x.detach().requires_grad_()
            out = F.dropout(x, 0.25, True)
            out.sum().backward()
            assert pt.equal(to_torch(out), to_torch(x.grad))
            kept = to_torch(out).double()
            assert bool(((kept == 0) | ((kept - 4 / 3).abs() < 1e-2)).all())
            if count > 4000:
                assert abs(float((kept == 0).double().mean()) - 0.25) < 0.04
