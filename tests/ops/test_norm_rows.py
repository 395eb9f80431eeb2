"""Norms over rows of many lengths: every way a kernel has of holding a row, against float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch as pt
from operator_cases import to_ours, to_torch
from vibetensor.torch.nn import functional as F

import vibetensor.torch as vt

PLACES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
LENGTHS = [1, 7, 100, 256, 768, 1032, 2048, 4096, 8192, 16384, 40000]
TOLERANCE = {"float64": 1e-9, "float32": 2e-5, "bfloat16": 2e-2, "float16": 3e-3}

places = pytest.mark.parametrize("place", PLACES)


def given(*sizes: int, dtype: str, seed: int, offset: int = 0) -> pt.Tensor:
    """Normal numbers whose memory begins `offset` elements behind an aligned address."""
    generator = pt.Generator().manual_seed(seed)
    count = offset + int(pt.tensor(sizes).prod())
    values = pt.randn(count, generator=generator, dtype=pt.float64).to(getattr(pt, dtype))
    return values[offset:].view(sizes)


def on(place: str, t: pt.Tensor, offset: int) -> Any:
    """The same in our tensor, on the device, as far from an aligned address."""
    memory = vt.empty((offset + t.numel(),), dtype=to_ours(t).dtype, device=place)
    memory[offset:] = to_ours(t.reshape(-1)).to(place)
    return memory[offset:].view(t.shape).detach().requires_grad_(True)


def close(mine: Any, expected: pt.Tensor, dtype: str) -> None:
    """Equal up to the precision, relative to the largest value."""
    got = to_torch(mine.to("cpu")).double()
    scale = max(1.0, float(expected.abs().max()))
    assert pt.allclose(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


def norm(m: Any, kind: str, x: Any, residual: Any, n: int, w: Any, b: Any) -> list[Any]:
    """[norm] or, with a residual, [norm, sum]; `m` is the module of functionals."""
    if residual is None:
        result = m.layer_norm(x, (n,), w, b) if kind == "layer" else m.rms_norm(x, (n,), w, 1e-5)
        return [result]
    if m is F and kind == "layer":
        return list(m.add_layer_norm(x, residual, (n,), w, b))
    if m is F:
        return list(m.add_rms_norm(x, residual, (n,), w, 1e-5))
    total = (x + residual).to(x.dtype)
    return [*norm(m, kind, total, None, n, w, b), total]


def check(place: str, kind: str, rows: int, n: int, dtype: str, added: bool, offset: int) -> None:
    made = [given(rows, n, dtype=dtype, seed=s, offset=offset) for s in (1, 2)]
    made += [given(n, dtype=dtype, seed=s, offset=offset) for s in (3, 4)]
    seeds = [given(rows, n, dtype=dtype, seed=s) for s in (5, 6)]
    exact = [t.double().requires_grad_() for t in made]
    runs = []
    for _ in range(2):
        mine = [on(place, t, offset) for t in made]
        results = norm(F, kind, mine[0], mine[1] if added else None, n, mine[2], mine[3])
        grads = [to_ours(s).to(place) for s in seeds[: len(results)]]
        vt.autograd.backward(results, grads)
        runs.append([*results, *(t.grad for t in mine if t.grad is not None)])
    for a, b in zip(*runs, strict=True):
        assert pt.equal(to_torch(a.to("cpu")), to_torch(b.to("cpu"))), "two runs differ"
    theirs = norm(
        pt.nn.functional, kind, exact[0], exact[1] if added else None, n, exact[2], exact[3]
    )
    pt.autograd.backward(theirs, [s.double() for s in seeds[: len(theirs)]])
    expected = [*theirs, *(t.grad for t in exact if t.grad is not None)]
    for a, b in zip(runs[0], expected, strict=True):
        close(a, b.detach(), dtype)


@places
@pytest.mark.parametrize("added", [False, True], ids=["plain", "added"])
@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("n", LENGTHS)
def test_lengths(place: str, kind: str, n: int, added: bool) -> None:
    for dtype in TOLERANCE:
        check(place, kind, 5, n, dtype, added, offset=0)


@places
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_many_rows(place: str, kind: str) -> None:
    check(place, kind, 3000, 96, "float32", False, offset=0)
    check(place, kind, 5000, 768, "bfloat16", True, offset=0)


@places
def test_memory_that_is_not_aligned(place: str) -> None:
    check(place, "layer", 9, 256, "float32", True, offset=1)
    check(place, "rms", 9, 768, "bfloat16", False, offset=3)


@places
@pytest.mark.parametrize("used", [0, 1], ids=["only the norm", "only the sum"])
def test_gradient_of_one_result(place: str, used: int) -> None:
    made = [given(6, 32, dtype="float64", seed=s) for s in (1, 2)]
    mine = [on(place, t, 0) for t in made]
    weight = on(place, given(32, dtype="float64", seed=3), 0)
    vt.autograd.backward(F.add_layer_norm(mine[0], mine[1], (32,), weight)[used].square().sum())
    exact = [t.clone().requires_grad_() for t in made]
    total = exact[0] + exact[1]
    chosen = [
        pt.nn.functional.layer_norm(total, (32,), given(32, dtype="float64", seed=3)), total
    ][used]  # fmt: skip
    chosen.square().sum().backward()
    for a, b in zip(mine, exact, strict=True):
        close(a.grad, b.grad, "float64")


def test_sum_feeds_the_next_layer() -> None:
    x, r = (given(4, 8, dtype="float64", seed=s) for s in (1, 2))
    mine = [on("cpu", t, 0) for t in (x, r)]
    out, total = F.add_rms_norm(*mine, (8,), eps=1e-5)
    (out * total).sum().backward()
    x.requires_grad_()
    t = x + r
    (pt.nn.functional.rms_norm(t, (8,), eps=1e-5) * t).sum().backward()
    close(mine[0].grad, x.grad, "float64")


def test_refuses_what_does_not_fit() -> None:
    x = vt.ones(4, 8)
    with pytest.raises(RuntimeError, match=r"add_layer_norm.*one shape and dtype"):
        F.add_layer_norm(x, vt.ones(4, 1), (8,))
    with pytest.raises(RuntimeError, match=r"add_rms_norm.*one shape and dtype"):
        F.add_rms_norm(x, x.double(), (8,))
    with pytest.raises(RuntimeError, match="normalized_shape"):
        F.add_layer_norm(x, x, (4,))
