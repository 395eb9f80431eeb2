"""Gradients of norms where a GPU's batches of rows end early: few rows, short last batches, rows
that do not fill the threads of a row, numbers that are none."""

from __future__ import annotations

from typing import Any

import pytest
import torch as pt
from operator_cases import to_ours, to_torch
from test_norm_rows import check, given, on, places

import vibetensor.torch as vt

F = vt.nn.functional


@places
@pytest.mark.parametrize("rows", [1, 2, 3, 17, 133])
@pytest.mark.parametrize("n", [8, 264, 520, 776, 1000, 1544, 2056, 4088, 4104])
def test_rows_that_do_not_fill_a_batch(place: str, n: int, rows: int) -> None:
    for kind in ("layer", "rms"):
        check(place, kind, rows, n, "bfloat16", True, offset=0)
    check(place, "layer", rows, n, "float64" if rows == 17 else "float32", False, offset=0)


@places
@pytest.mark.parametrize("n", [256, 768, 1024, 2048, 4096, 8192])
def test_more_batches_than_stages(place: str, n: int) -> None:
    rows = 5_000_000 // n if place == "cuda" else 40  # a GPU has 2,112 warps at work
    check(place, "layer", rows + 3, n, "bfloat16", True, offset=0)
    check(place, "rms", rows + 1, n, "bfloat16", False, offset=0)


@places
@pytest.mark.parametrize("n", [64, 768, 1024, 4096])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_stays_in_its_row_and_column(place: str, wrong: float, n: int) -> None:
    rows = 11
    x, grad, weight = (given(*s, dtype="float32", seed=i) for i, s in
                       enumerate([(rows, n), (rows, n), (n,)]))  # fmt: skip
    grad[4, 5] = wrong
    mine = [on(place, t, 0) for t in (x, weight, weight)]
    vt.autograd.backward(F.layer_norm(mine[0], (n,), mine[1], mine[2]), to_ours(grad).to(place))
    dx, dweight, dbias = (to_torch(t.grad.to("cpu")) for t in mine)
    assert not dx[4].isfinite().any()
    assert pt.cat([dx[:4], dx[5:]]).isfinite().all()
    columns = pt.arange(n) != 5
    for sums in (dweight, dbias):
        assert sums[columns].isfinite().all() and not sums[5].isfinite()


def step(place: str, m: Any, tensors: list[Any], n: int, used: int) -> list[Any]:
    """Gradients of a residual norm behind dropout, of which one result is used, or both (2)."""
    x, residual, weight, bias = (t.detach().requires_grad_() for t in tensors)
    m.manual_seed(5)
    out, total = F.add_layer_norm(x, residual, (n,), weight, bias, dropout_p=0.25)
    results = [out, total] if used == 2 else [(out, total)[used]]
    loss = sum((r.float() * (i + 1) * 0.5).square().sum() for i, r in enumerate(results))
    loss.backward()
    kept = (total.detach().float() - residual.detach().float()).abs() > 0
    return [kept, *(t.grad for t in (x, residual, weight, bias))]


@places
@pytest.mark.parametrize("n", [256, 768, 1024, 4096, 8192, 9])
@pytest.mark.parametrize("used", [0, 1, 2], ids=["only the norm", "only the sum", "both"])
def test_dropout_in_front_drops_the_residual_gradient(place: str, used: int, n: int) -> None:
    for dtype in (vt.float32, vt.bfloat16):
        made = [given(*s, dtype="float32", seed=i) for i, s in
                enumerate([(29, n), (29, n), (n,), (n,)])]  # fmt: skip
        made[0] = made[0].abs() + 4  # no sum hides that an element was kept
        mine = [to_ours(t).to(place).to(dtype) for t in made]
        kept, dx, dsum, *_ = (
            t if t is None else to_torch(t.to("cpu")) for t in step(place, vt, mine, n, used)
        )
        again = step(place, vt, mine, n, used)
        assert pt.equal(to_torch(again[1].to("cpu")), dx), "two runs differ"
        assert 0.6 < kept.double().mean() < 0.9
        expected = pt.where(kept, dsum.float() * (1 / 0.75), pt.zeros(())).to(dx.dtype)
        assert pt.equal(dx, expected)
