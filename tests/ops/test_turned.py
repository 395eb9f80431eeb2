"""Elementwise operators and copies whose operands lie across each other, against numbers taken one
by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch as pt
from operator_cases import to_ours, to_torch

import vibetensor.torch as torch

places = pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
SIZES = [(64, 64), (32, 32), (72, 200), (8, 96), (33, 65), (1000, 24), (40, 264), (130, 48)]
TYPES = ["float32", "bfloat16", "float16", "float64", "int64", "int32", "uint8", "bool"]
Run = Callable[[Any, Any, Any], Any]


def numbers(*sizes: int, dtype: str, seed: int) -> pt.Tensor:
    """Small whole numbers, so that every type holds them and their sums."""
    made = pt.randint(0, 12, sizes, generator=pt.Generator().manual_seed(seed))
    return made.to(getattr(pt, dtype))


def same(place: str, run: Run, *given: pt.Tensor) -> None:
    """`run` gives PyTorch's numbers."""
    wanted = run(pt, *given)
    got = to_torch(run(torch, *(to_ours(t).to(place) for t in given)).cpu())
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    assert pt.equal(got, wanted)


@places
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_transposed_copies(place: str, sizes: tuple[int, int], dtype: str) -> None:
    x = numbers(3, *sizes, dtype=dtype, seed=1)
    same(place, lambda m, x: x[0].t().contiguous(), x)
    same(place, lambda m, x: x.transpose(1, 2).contiguous(), x)
    same(place, lambda m, x: x[:, 1:, :].transpose(1, 2).contiguous(), x)
    same(place, lambda m, x: x[:, :, 3:].transpose(1, 2).contiguous(), x)
    same(place, lambda m, x: x.permute(2, 0, 1).contiguous(), x)


@places
@pytest.mark.parametrize("dtype", TYPES[:5])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_operators_across(place: str, sizes: tuple[int, int], dtype: str) -> None:
    rows, columns = sizes
    a, b = numbers(rows, columns, dtype=dtype, seed=1), numbers(columns, rows, dtype=dtype, seed=2)
    same(place, lambda m, a, b: a + b.t(), a, b)
    same(place, lambda m, a, b: b.t() - a, a, b)
    same(place, lambda m, a, b: a.t() * b, a, b)
    same(place, lambda m, a, b: a + b.t()[:1], a, b)  # one is repeated
    same(place, lambda m, a, b: a[:, :1] * b.t(), a, b)
    same(place, lambda m, a, b: m.maximum(b.t(), a), a, b)
    same(place, lambda m, a, b: b.t() < a, a, b)  # of another type
    same(place, lambda m, a, b: m.sub(a, b.t(), alpha=2), a, b)
    same(place, lambda m, a, b: a[1:] + b[:, 1:].t(), a, b)  # packs are not aligned
    same(place, lambda m, a, b: a[:, 1:] + b[1:].t(), a, b)


@places
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_across_in_batches(place: str, dtype: str) -> None:
    a = numbers(3, 2, 96, 136, dtype=dtype, seed=1)
    b = numbers(2, 3, 136, 96, dtype=dtype, seed=2)
    same(place, lambda m, a, b: a + b.transpose(0, 1).transpose(2, 3), a, b)
    same(place, lambda m, a, b: a * b[0, 0].t(), a, b)
    same(place, lambda m, a, b: a[1:, :, ::2] - b.transpose(0, 1).transpose(2, 3)[1:, :, ::2], a, b)

    def in_place(m: Any, a: Any, b: Any) -> Any:
        result = a.clone()
        result += b.transpose(0, 1).transpose(2, 3)
        return result

    same(place, in_place, a, b)
    square = numbers(96, 96, dtype=dtype, seed=3)
    over_itself = to_ours(square).to(place).clone()
    over_itself += over_itself.t()
    assert pt.equal(to_torch(over_itself.cpu()), square + square.t())


@places
def test_both_across_their_result(place: str) -> None:
    a, b, out = (numbers(*sizes, dtype="float32", seed=s) for s, sizes in
                 enumerate([(72, 104), (72, 104), (104, 72)]))  # fmt: skip

    def into(m: Any, a: Any, b: Any, out: Any) -> Any:
        return m.add(a.t(), b.t(), out=out)

    same(place, into, a, b, out)


@places
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_not_finite_stays_where_it_is(place: str, dtype: str) -> None:
    a, b = numbers(64, 128, dtype=dtype, seed=1), numbers(128, 64, dtype=dtype, seed=2)
    a[3, 5] = b[7, 60] = float("nan")
    a[60, 100], b[100, 61] = float("inf"), -float("inf")
    wanted = a + b.t()
    got = to_torch((to_ours(a).to(place) + to_ours(b).to(place).t()).cpu())
    assert pt.equal(got.isnan(), wanted.isnan())
    assert pt.equal(got.nan_to_num(), wanted.nan_to_num())
