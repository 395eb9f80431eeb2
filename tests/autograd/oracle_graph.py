"""Runs one function on vibetensor's and on PyTorch's tensors and compares what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch as pt

import vibetensor.torch as vt


def leaf(values: pt.Tensor, requires_grad: bool = True) -> Any:
    return vt.from_dlpack(values.detach().clone().contiguous()).requires_grad_(requires_grad)


def theirs(t: Any) -> pt.Tensor:
    return pt.from_dlpack(t.detach().contiguous()).clone()


def check(ours: Any, expected: pt.Tensor, rtol: float = 1e-9, atol: float = 1e-10) -> None:
    pt.testing.assert_close(theirs(ours), expected.detach(), rtol=rtol, atol=atol)


def same_gradients(run: Callable[..., Any], *shapes: tuple[int, ...], seed: int = 0) -> None:
    """``run(lib, *leaves)`` returns a tensor; result and all gradients agree in float64."""
    generator = pt.Generator().manual_seed(seed)
    values = [pt.randn(shape, generator=generator, dtype=pt.float64) for shape in shapes]
    mine = [leaf(v) for v in values]
    yours = [v.clone().requires_grad_() for v in values]
    a, b = run(vt, *mine), run(pt, *yours)
    check(a, b)
    weights = pt.randn(b.shape, generator=generator, dtype=pt.float64)
    (a * leaf(weights, False)).sum().backward()
    (b * weights).sum().backward()
    for x, y in zip(mine, yours, strict=True):
        assert (x.grad is None) == (y.grad is None)
        if y.grad is not None:
            check(x.grad, y.grad)


def same_second_gradients(run: Callable[..., Any], *shapes: tuple[int, ...], seed: int = 0) -> None:
    """The gradient of the squared gradient, with create_graph."""
    generator = pt.Generator().manual_seed(seed)
    values = [pt.randn(shape, generator=generator, dtype=pt.float64) for shape in shapes]
    sides = []
    for lib, leaves in (
        (vt, [leaf(v) for v in values]),
        (pt, [v.clone().requires_grad_() for v in values]),
    ):
        out = (run(lib, *leaves) ** 2).sum()
        first = lib.autograd.grad(out, leaves, create_graph=True)
        sum((g * g).sum() for g in first).backward()
        sides.append((first, [x.grad for x in leaves]))
    for mine, yours in zip(*sides, strict=True):
        for a, b in zip(mine, yours, strict=True):
            check(a, b, rtol=1e-7, atol=1e-8)
