"""Graphs of every form: reuse, retention, double backward, in-place changes of views, depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch as pt
from oracle_graph import check, leaf, same_gradients, same_second_gradients

import vibetensor.torch as vt

GRAPHS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "a tensor used twice": (lambda m, x: x * x + x, ((3, 4),)),
    "diamond": (lambda m, x: (x.exp() * m.sin(x) + x.tanh()) * x.exp(), ((3, 4),)),
    "same tensor both sides of a product": (lambda m, x: x @ x, ((4, 4),)),
    "broadcast back to a row": (lambda m, x, y: (x + y) * y, ((3, 4), (4,))),
    "broadcast back to a number": (lambda m, x, y: x * y - y, ((3, 4), ())),
    "two results of one split": (lambda m, x: m.split(x, 2)[0] * m.split(x, 2)[1], ((4, 3),)),
    "an unused part": (lambda m, x: x.chunk(3)[1] * 2, ((6, 3),)),
    "views of views": (lambda m, x: x.t()[1:].reshape(-1)[::2] * 3, ((4, 5),)),
    "expand and sum": (lambda m, x: x.expand(5, 3, 4).sum(0) * x, ((3, 4),)),
    "cat of one tensor twice": (lambda m, x: m.cat([x, x * 2, x], 1), ((3, 4),)),
    "stack": (lambda m, x, y: m.stack([x, y, x], 1), ((3, 4), (3, 4))),
    "max shared by ties": (lambda m, x: m.amax(m.cat([x, x], 1), 1), ((3, 4),)),
    "norm and divide": (lambda m, x: x / x.norm(), ((3, 4),)),
    "where": (lambda m, x, y: m.where(x > 0, x * y, y), ((3, 4), (3, 4))),
    "masked": (lambda m, x: x.masked_fill(x < 0, 0.5) * x, ((3, 4),)),
    "boolean index": (lambda m, x: x[x.detach() > 0] * 2, ((3, 4),)),
    "index with repeats": (lambda m, x: x[m.tensor([0, 2, 2, 1])] * 2, ((3, 4),)),
    "two index tensors": (lambda m, x: x[m.tensor([0, 2]), m.tensor([1, 1])], ((3, 4),)),
    "negative index": (lambda m, x: x[-1] * x[..., -2:].sum(), ((3, 4),)),
    "logsumexp": (lambda m, x: m.logsumexp(x, 1), ((3, 4),)),
    "var": (lambda m, x: x.var(dim=1) * x.std(), ((3, 4),)),
    "cross entropy": (
        lambda m, x: m.nn.functional.cross_entropy(x, m.tensor([0, 2, 1])),
        ((3, 4),),
    ),
    "cross entropy, smooth": (
        lambda m, x: m.nn.functional.cross_entropy(x, m.tensor([0, -100, 1]), label_smoothing=0.2),
        ((3, 4),),
    ),
    "layer norm": (
        lambda m, x, w, b: m.nn.functional.layer_norm(x, [4], w, b),
        ((3, 4), (4,), (4,)),
    ),
    "rms norm": (lambda m, x, w: m.nn.functional.rms_norm(x, [4], w, 1e-6), ((3, 4), (4,))),
    "attention": (
        lambda m, q, k, v: m.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
        ((2, 5, 4), (2, 5, 4), (2, 5, 4)),
    ),
    "attention with a mask": (
        lambda m, q, k, v, a: m.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=a),
        ((2, 5, 4), (2, 6, 4), (2, 6, 4), (5, 6)),
    ),
    "linear over leading dims": (
        lambda m, x, w, b: m.nn.functional.linear(x, w, b),
        ((2, 3, 4), (5, 4), (5,)),
    ),
    "linear of a vector": (lambda m, x, w: m.nn.functional.linear(x, w), ((4,), (5, 4))),
    "matmul vector vector": (lambda m, x, y: x @ y, ((4,), (4,))),
    "matmul matrix vector": (lambda m, x, y: x @ y, ((3, 4), (4,))),
    "matmul vector matrix": (lambda m, x, y: x @ y, ((4,), (4, 3))),
    "matmul batch matrix": (lambda m, x, y: x @ y, ((2, 5, 3, 4), (4, 6))),
    "matmul matrix batch": (lambda m, x, y: x @ y, ((3, 4), (2, 4, 6))),
    "matmul batch vector": (lambda m, x, y: x @ y, ((2, 3, 4), (4,))),
    "matmul vector batch": (lambda m, x, y: x @ y, ((4,), (2, 4, 3))),
    "matmul broadcast batches": (lambda m, x, y: x @ y, ((2, 1, 3, 4), (5, 4, 6))),
    "matmul of strided batches": (lambda m, x, y: x[:, :, :3] @ y, ((2, 1, 7, 4), (4, 6))),
    "matmul of a transposed batch": (
        lambda m, x, y: x.transpose(0, 1) @ y.t(),
        ((5, 2, 4), (6, 4)),
    ),
    "matmul of expanded": (lambda m, x, y: x.expand(3, 2, 4) @ y.expand(3, 4, 4), ((2, 4), (4, 4))),
    "diagonal of a view": (lambda m, x: x[1:].t().diagonal(1) * 2, ((5, 4),)),
    "as_strided of a view": (lambda m, x: x[1:].as_strided((3, 2), (2, 3), 4), ((5, 4),)),
    "as_strided that overlaps": (lambda m, x: x.as_strided((4, 3), (2, 1), 1) * 2, ((4, 4),)),
    "as_strided of an expanded tensor": (
        lambda m, x: x.expand(3, 4).as_strided((4,), (1,)) * 2,
        ((4,),),
    ),
    "prod": (lambda m, x: x.prod() * x, ((2, 3),)),
    "cumsum": (lambda m, x: x.cumsum(0) * x.cumsum(1), ((3, 4),)),
    "sort": (lambda m, x: x.sort(1)[0] * x, ((3, 4),)),
    "topk": (lambda m, x: x.topk(2, dim=0)[0], ((3, 4),)),
    "repeat and roll": (lambda m, x: x.repeat(2, 3).roll(1, 0), ((3, 4),)),
    "power of two tensors": (lambda m, x, y: (x.abs() + 1) ** y, ((3, 4), (3, 4))),
    "dtype and back": (lambda m, x: x.to(m.float32).to(m.float64) * x, ((3, 4),)),
    "copy into a fresh tensor": (
        lambda m, x: m.zeros(3, 4, dtype=m.float64).copy_(x * 2) * x,
        ((3, 4),),
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_are_torchs(name: str) -> None:
    run, shapes = GRAPHS[name]
    same_gradients(run, *shapes)


ONCE_ONLY = (
    "cross entropy",
    "cross entropy, smooth",
    "layer norm",
    "rms norm",
    "dtype and back",
)


@pytest.mark.parametrize("name", [n for n in GRAPHS if n not in ONCE_ONLY])
def test_second_gradients_are_torchs(name: str) -> None:
    run, shapes = GRAPHS[name]
    same_second_gradients(run, *shapes)


@pytest.mark.parametrize("name", ["cross entropy", "layer norm", "rms norm"])
def test_a_second_derivative_that_does_not_exist_is_an_error(name: str) -> None:
    run, shapes = GRAPHS[name]
    with pytest.raises(
        NotImplementedError, match=r"second derivative|derivative is not implemented"
    ):
        same_second_gradients(run, *shapes)


# --- depth and width ---


def test_a_chain_of_a_hundred_thousand() -> None:
    x = vt.ones(1, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad.tolist() == [1.0]
    del y  # and the graph goes without a deep recursion


def test_a_chain_that_is_never_run_goes_quietly() -> None:
    y = vt.ones(1, requires_grad=True)
    for _ in range(100_000):
        y = y.tanh()
    del y


def test_a_long_chain_of_in_place_views() -> None:
    x = vt.zeros(10, requires_grad=True)
    y = x * 1.0
    for i in range(300):
        y[i % 10].add_(1.0)
    y.sum().backward()
    assert x.grad.tolist() == [1.0] * 10


def test_a_wide_sum() -> None:
    x = vt.ones(2, requires_grad=True)
    vt.stack([x * float(i) for i in range(1000)]).sum().backward()
    assert x.grad.tolist() == [499500.0] * 2


def test_prod_with_zeros() -> None:
    for values in ([2.0, 0.0, 3.0], [0.0, 0.0, 3.0]):
        mine, yours = leaf(pt.tensor(values)), pt.tensor(values, requires_grad=True)
        mine.prod().backward()
        yours.prod().backward()
        check(mine.grad, yours.grad)


def test_norm_at_zero() -> None:
    x = vt.zeros(3, requires_grad=True)
    x.norm().backward()
    assert x.grad.tolist() == [0, 0, 0]


def test_gradients_arrive_in_the_type_of_the_leaf() -> None:
    x = vt.ones(3, dtype=vt.bfloat16, requires_grad=True)
    y = vt.ones(3, dtype=vt.float64, requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.dtype == vt.bfloat16 and y.grad.dtype == vt.float64
