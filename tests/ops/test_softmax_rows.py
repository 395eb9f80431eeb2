"""Softmax and cross-entropy over rows of many lengths, against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as pt
from operator_cases import to_ours, to_torch
from test_norm_rows import close, given, on, places
from vibetensor.torch.nn import functional as F

import vibetensor.torch as vt
from vibetensor import _C

LENGTHS = [1, 7, 96, 256, 1000, 1024, 1032, 4096, 8192, 12000, 12288, 24576, 32768, 50304, 130000]
DTYPES = ["float32", "bfloat16"]


def twice(run: Any) -> list[Any]:
    """The results of two runs, which must be the same to the bit."""
    first, second = run(), run()
    for a, b in zip(first, second, strict=True):
        assert pt.equal(to_torch(a), to_torch(b)), "two runs differ"
    return list(first)


@places
@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
@pytest.mark.parametrize("n", LENGTHS)
def test_softmax(place: str, n: int, log: bool) -> None:
    for dtype, offset in ((DTYPES[0], 0), (DTYPES[1], 0), (DTYPES[0], 1)):
        x, seed = (given(5, n, dtype=dtype, seed=s, offset=offset) for s in (1, 2))

        def run(x: Any = x, seed: Any = seed, offset: int = offset) -> list[Any]:
            mine = on(place, x, offset)
            out = (vt.log_softmax if log else vt.softmax)(mine, dim=-1)
            vt.autograd.backward([out], [to_ours(seed).to(place)])
            return [out, mine.grad]

        exact = x.double().requires_grad_()
        out = (pt.log_softmax if log else pt.softmax)(exact, dim=-1)
        out.backward(seed.double())
        got = twice(run)
        close(got[0], out.detach(), dtype)
        assert exact.grad is not None
        close(got[1], exact.grad, dtype)


def labels(rows: int, n: int) -> pt.Tensor:
    """Class numbers, of which one is ignored."""
    target = pt.randint(0, n, (rows,), generator=pt.Generator().manual_seed(n))
    target[rows // 2] = -100
    return target


@places
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("n", LENGTHS)
def test_cross_entropy(place: str, n: int, smoothing: float) -> None:
    for dtype, offset in ((DTYPES[0], 0), (DTYPES[1], 0), (DTYPES[1], 3)):
        x, target = given(6, n, dtype=dtype, seed=n, offset=offset) * 3, labels(6, n)

        def run(x: Any = x, target: Any = target, offset: int = offset) -> list[Any]:
            mine = on(place, x, offset)
            loss = F.cross_entropy(mine, to_ours(target).to(place), label_smoothing=smoothing)
            loss.backward()
            return [loss, mine.grad]

        exact = x.double().requires_grad_()
        loss = pt.nn.functional.cross_entropy(exact, target, label_smoothing=smoothing)
        loss.backward()
        got = twice(run)
        close(got[0], loss.detach(), dtype)
        assert exact.grad is not None
        close(got[1], exact.grad, dtype)


@places
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("n", LENGTHS)
def test_loss_and_gradient_in_one_pass(place: str, n: int, in_place: bool) -> None:
    for dtype in DTYPES:
        x, target = given(6, n, dtype=dtype, seed=n) * 3, labels(6, n)
        rate = pt.linspace(0.5, 1.5, 6)
        exact = x.double().requires_grad_()
        loss = pt.nn.functional.cross_entropy(exact, target, reduction="none", label_smoothing=0.1)
        loss.backward(rate.double())
        logits = on(place, x, 0).detach()
        before = logits.clone()
        got, gradient = _C.ops.cross_entropy_both(
            logits, to_ours(target).to(place), to_ours(rate).to(place), -100, 0.1, in_place
        )
        close(got, loss.detach(), dtype)
        assert exact.grad is not None
        close(gradient, exact.grad, dtype)
        changed = logits if not in_place else gradient
        assert pt.equal(to_torch(logits), to_torch(before if not in_place else changed))


@places
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("n", [64, 9600, 50304])
def test_losses_of_extreme_rows(place: str, n: int, dtype: str) -> None:
    x = given(8, n, dtype=dtype, seed=n)
    target = pt.full((8,), 5)
    x[0, 5] = 80.0  # all but certain, and right
    x[1, 7] = 80.0  # and wrong
    x[2, ::2] = -float("inf")
    x[3] = 1000.0
    x[4, 3] = float("nan")
    x[5, 3] = float("inf")
    x[6] *= 20.0
    x[7] = -float("inf")
    exact = x.double().requires_grad_()
    losses = pt.nn.functional.cross_entropy(exact, target, reduction="none")
    losses.sum().backward()
    logits = on(place, x, 0).detach()
    rate = to_ours(pt.ones(8)).to(place)
    got, gradient = _C.ops.cross_entropy_both(
        logits, to_ours(target).to(place), rate, -100, 0.0, False
    )
    finite = [0, 1, 2, 3, 6]
    tolerance = dtype if dtype != "float16" else "bfloat16"
    close(to_ours(to_torch(got)[finite]), losses.detach()[finite], tolerance)
    assert exact.grad is not None
    # A float32 logsumexp of large logits is off by some 2^-14.
    unit = {"float32": 2.0**-14, "bfloat16": 2.0**-8, "float16": 2.0**-10}[dtype]
    smallest = 2.0**-24 if dtype == "float16" else 2.0**-38
    error = (to_torch(gradient).double() - exact.grad)[finite].abs()
    bound = unit * exact.grad[finite].abs() + smallest
    bound[:, 5] += 2.0**-20  # a difference from 1
    assert bool((error <= bound).all()), float((error / bound).max())
    for row in (4, 5, 7):
        assert bool(to_torch(gradient)[row, 5].isnan()) and bool(to_torch(got)[row].isnan())


@places
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_more_long_rows_than_multiprocessors(place: str, dtype: str) -> None:
    rows, n = 300, 9600
    x, target = given(rows, n, dtype=dtype, seed=n) * 3, labels(rows, n)
    exact = x.double().requires_grad_()
    loss = pt.nn.functional.cross_entropy(exact, target, reduction="sum")
    loss.backward()

    def run() -> list[Any]:
        mine = on(place, x, 0)
        loss = F.cross_entropy(mine, to_ours(target).to(place), reduction="sum")
        loss.backward()
        return [loss, mine.grad]

    got = twice(run)
    close(got[0], loss.detach(), dtype)
    assert exact.grad is not None
    close(got[1], exact.grad, dtype)


@places
def test_a_target_out_of_range_is_an_error(place: str) -> None:
    logits, target = vt.zeros(4, 10, device=place), vt.full((4,), 10, device=place)
    with pytest.raises(IndexError, match="cross_entropy"):
        F.cross_entropy(logits, target).item()


@places
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_graph_that_is_kept_gives_its_gradient_again(
    place: str, dtype: str, reduction: str
) -> None:
    x, target = given(6, 40, dtype=dtype, seed=3), labels(6, 40)
    mine = on(place, x, 0)
    logits = mine * 1.0
    loss = F.cross_entropy(logits, to_ours(target).to(place), reduction=reduction)
    before = to_torch(logits)
    (loss * 3.0).backward(retain_graph=True)
    first = mine.grad.clone()
    (loss * 3.0).backward()
    exact = x.double().requires_grad_()
    pt.nn.functional.cross_entropy(exact, target, reduction=reduction).backward()
    assert exact.grad is not None
    tolerance = dtype if dtype != "float16" else "bfloat16"
    close(first, 3 * exact.grad, tolerance)
    close(mine.grad, 6 * exact.grad, tolerance)
    assert pt.equal(to_torch(logits), before), "the logits changed"


@places
@pytest.mark.parametrize("reshaped", [False, True])
@pytest.mark.parametrize("held", ["nobody", "variable", "view", "graph"])
def test_logits_that_nobody_holds_become_their_gradient(
    place: str, held: str, reshaped: bool
) -> None:
    x, target = given(6, 40, dtype="float32", seed=3), labels(6, 40)
    mine = on(place, x, 0)
    logits = mine * 1.0
    before = to_torch(logits)
    version, place_of_logits = logits._version, logits.data_ptr()
    places_of_gradient: list[int] = []
    logits.register_hook(lambda grad: places_of_gradient.append(grad.data_ptr()))
    if reshaped:
        logits = logits.reshape(2, 3, 40)
    rows = logits.reshape(6, 40) if reshaped else logits
    loss = F.cross_entropy(rows, to_ours(target).to(place), reduction="none").sum()
    del rows
    view = logits.reshape(6, 40)[0] if held == "view" else None
    if held != "variable":
        del logits
    loss.backward(retain_graph=held == "graph")
    assert (places_of_gradient == [place_of_logits]) == (held == "nobody")
    exact = x.double().requires_grad_()
    pt.nn.functional.cross_entropy(exact, target, reduction="none").sum().backward()
    assert exact.grad is not None
    close(mine.grad, exact.grad, "float32")
    if held == "variable":
        assert pt.equal(to_torch(logits).reshape(6, 40), before) and logits._version == version
    if view is not None:
        assert pt.equal(to_torch(view), before[0])
    if held == "graph":
        loss.backward()
        close(mine.grad, 2 * exact.grad, "float32")


def test_memory_of_numpy_is_not_written() -> None:
    rows = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)
    before = rows.copy()

    def loss() -> Any:
        logits = vt.from_numpy(rows).requires_grad_()
        return F.cross_entropy(logits, vt.zeros(8, dtype=vt.int64), reduction="none").sum()

    loss().backward()
    assert np.array_equal(rows, before)


@places
def test_no_row_that_counts(place: str) -> None:
    logits = vt.zeros(3, 5, device=place).requires_grad_()
    target = vt.full((3,), -100, device=place)
    loss = F.cross_entropy(logits, target)
    loss.backward()
    assert bool(loss.isnan().item())
    assert float(logits.grad.abs().sum().item()) == 0
    assert float(F.cross_entropy(logits, target, reduction="sum").item()) == 0


def test_the_second_derivative_is_refused() -> None:
    logits = vt.zeros(3, 5).requires_grad_()
    loss = F.cross_entropy(logits, vt.zeros(3, dtype=vt.int64))
    with pytest.raises(NotImplementedError, match="cross_entropy"):
        vt.autograd.grad(loss, logits, create_graph=True)
