"""Random shapes, strides, broadcasts, index expressions and graphs against PyTorch."""

from __future__ import annotations

from typing import Any

import torch as pt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vibetensor.torch as vt

FAST = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def ours(t: pt.Tensor) -> Any:
    """The same values with the same strides and offset."""
    memory = pt.empty(0, dtype=t.dtype).set_(t.untyped_storage())
    return (
        vt.from_dlpack(memory.clone())
        .as_strided(list(t.shape), list(t.stride()), t.storage_offset())
        .detach()
    )


def same(a: Any, b: pt.Tensor, tolerance: float = 1e-5) -> None:
    a = pt.from_dlpack(a.detach().contiguous())
    assert a.dtype == b.dtype and a.shape == b.shape
    pt.testing.assert_close(a, b.detach(), rtol=tolerance, atol=tolerance, equal_nan=True)


@st.composite
def views(draw: st.DrawFn, dtype: pt.dtype = pt.float32, max_dims: int = 4) -> pt.Tensor:
    """A tensor that went through a few views."""
    shape = draw(st.lists(st.integers(0, 5), max_size=max_dims))
    t = pt.randn(shape, generator=pt.Generator().manual_seed(draw(st.integers(0, 99)))) * 4
    t = t.to(dtype)
    for _ in range(draw(st.integers(0, 3))):
        if t.dim() == 0:
            break
        d = draw(st.integers(0, t.dim() - 1))
        match draw(st.integers(0, 4)):
            case 0:
                t = t.transpose(d, draw(st.integers(0, t.dim() - 1)))
            case 1:
                t = t[
                    (slice(None),) * d
                    + (slice(draw(st.integers(0, 2)), None, draw(st.integers(1, 3))),)
                ]
            case 2:
                t = t.unsqueeze(d) if t.dim() < max_dims else t
            case 3:
                t = t.select(d, draw(st.integers(0, t.shape[d] - 1))) if t.shape[d] else t
            case _:
                t = t.squeeze()
    return t


@st.composite
def broadcast_pairs(draw: st.DrawFn) -> tuple[pt.Tensor, pt.Tensor]:
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    sides = []
    for seed in (1, 2):
        own = [1 if draw(st.integers(0, 3)) == 0 else n for n in shape][
            draw(st.integers(0, len(shape))) :
        ]
        dtype = draw(
            st.sampled_from(
                [pt.float32, pt.float64, pt.int64, pt.int32, pt.uint8, pt.bool, pt.float16]
            )
        )
        t = (pt.randn(own, generator=pt.Generator().manual_seed(seed)) * 4).abs().to(dtype)
        if t.dim() and draw(st.booleans()):
            t = t.transpose(0, -1).contiguous().transpose(0, -1)
        sides.append(t)
    return sides[0], sides[1]


@FAST
@given(
    broadcast_pairs(),
    st.sampled_from(["add", "mul", "maximum", "eq", "lt", "true_divide", "logical_and"]),
)
def test_binary_operators(pair: tuple[pt.Tensor, pt.Tensor], name: str) -> None:
    x, y = pair
    expected = getattr(pt, name)(x, y)
    result = getattr(vt, name)(ours(x), ours(y))
    same(result, expected, 2e-3 if expected.dtype == pt.float16 else 1e-5)


@FAST
@given(views(), st.sampled_from(["exp", "neg", "tanh", "relu", "square", "isnan", "clone"]))
def test_unary_operators(x: pt.Tensor, name: str) -> None:
    same(getattr(vt, name)(ours(x)), getattr(pt, name)(x), 1e-4)


@FAST
@given(views(), st.data(), st.sampled_from(["sum", "mean", "amax", "any", "var"]))
def test_reductions(x: pt.Tensor, data: st.DataObject, name: str) -> None:
    dims = data.draw(
        st.lists(
            st.integers(0, max(x.dim() - 1, 0)), unique=True, min_size=1, max_size=max(x.dim(), 1)
        )
    )
    keepdim = data.draw(st.booleans())
    try:
        expected = getattr(pt, name)(x, dim=dims, keepdim=keepdim)
    except (RuntimeError, IndexError):
        return
    same(getattr(vt, name)(ours(x), dim=dims, keepdim=keepdim), expected, 1e-4)


@FAST
@given(views(), st.data())
def test_reshapes(x: pt.Tensor, data: st.DataObject) -> None:
    rest, shape = x.numel(), []
    while rest > 1 and len(shape) < 5:
        shape.append(data.draw(st.sampled_from([d for d in range(1, rest + 1) if rest % d == 0])))
        rest //= shape[-1]
    shape.append(rest)
    same(ours(x).reshape(shape), x.reshape(shape))
    try:
        expected: pt.Tensor | None = x.view(shape)
    except RuntimeError:
        expected = None
    try:
        viewed = ours(x).view(shape)
    except RuntimeError:
        viewed = None
    assert (viewed is None) == (expected is None)


@FAST
@given(st.data(), st.lists(st.integers(1, 3), max_size=2), st.lists(st.integers(1, 3), max_size=2))
def test_products(data: st.DataObject, batch: list[int], other_batch: list[int]) -> None:
    n, k, m = (data.draw(st.integers(0 if i else 1, 5)) for i in range(3))
    generator = pt.Generator().manual_seed(0)
    x = pt.randn([*batch, n, k], generator=generator)
    y = pt.randn([*other_batch, k, m], generator=generator)
    if data.draw(st.booleans()):
        x = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    if data.draw(st.booleans()):
        y = pt.cat([y, y], -1)[..., :m]
    if data.draw(st.booleans()) and x.dim() > 2:
        x = x.expand(*x.shape) if x.shape[0] != 1 else x.expand(3, *x.shape[1:])
    if data.draw(st.booleans()) and not batch:
        x = x[0] if n else x
    try:
        expected = x @ y
    except RuntimeError:
        return
    same(ours(x) @ ours(y), expected, 1e-4)


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """An index expression, with tensors as lists so that both libraries can have their own."""
    items: list[Any] = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        kind = draw(st.integers(0, 5))
        if kind == 0 and size:
            items.append(draw(st.integers(-size, size - 1)))
        elif kind == 1:
            start = draw(st.none() | st.integers(-size - 1, size + 1))
            stop = draw(st.none() | st.integers(-size - 1, size + 1))
            items.append(slice(start, stop, draw(st.none() | st.integers(1, 3))))
        elif kind == 2 and size:
            items.append(
                ("index", draw(st.lists(st.integers(-size, size - 1), min_size=2, max_size=2)))
            )
        elif kind == 3 and size:
            items.append(("mask", [draw(st.booleans()) for _ in range(size)]))
        elif kind == 4 and size:
            rows = st.lists(st.integers(0, size - 1), min_size=2, max_size=2)
            items.append(("index", draw(st.lists(rows, min_size=2, max_size=2))))
        else:
            items.append(slice(None))
    for _ in range(draw(st.integers(0, 1))):
        items.insert(draw(st.integers(0, len(items))), None)
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), ...)
    return tuple(items)


def with_tensors(items: tuple[Any, ...], m: Any) -> tuple[Any, ...]:
    def convert(item: Any) -> Any:
        if not isinstance(item, tuple):
            return item
        return m.tensor(item[1], dtype=m.int64 if item[0] == "index" else m.bool)

    return tuple(convert(item) for item in items)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), views())
def test_indexing(data: st.DataObject, x: pt.Tensor) -> None:
    items = data.draw(indices(tuple(x.shape)))
    try:
        expected = x[with_tensors(items, pt)]
    except IndexError:
        try:
            ours(x)[with_tensors(items, vt)]
        except IndexError:
            return
        raise AssertionError(f"{items} of {tuple(x.shape)} is an IndexError in torch") from None
    same(ours(x)[with_tensors(items, vt)], expected)

    # Gradient, and assignment of a number and of a tensor.
    mine, yours = ours(x).requires_grad_(), x.detach().clone().requires_grad_()
    a, b = mine[with_tensors(items, vt)], yours[with_tensors(items, pt)]
    (a * a).sum().backward()
    (b * b).sum().backward()
    same(mine.grad, yours.grad, 1e-4)
    left, right = ours(x.clone()), x.clone()
    left[with_tensors(items, vt)] = 2.5
    right[with_tensors(items, pt)] = 2.5
    same(left, right)
    values = pt.randn(expected.shape, generator=pt.Generator().manual_seed(3))
    repeats = any(isinstance(i, tuple) and i[0] == "index" for i in items)
    if not repeats:
        left[with_tensors(items, vt)] = ours(values)
        right[with_tensors(items, pt)] = values
        same(left, right)


OPERATIONS = (
    "add",
    "mul",
    "sub",
    "tanh",
    "exp",
    "matmul",
    "transpose",
    "slice",
    "sum",
    "setrow",
    "cat",
    "scale_row",
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 99), st.integers(0, 99)),
        min_size=3,
        max_size=14,
    )
)
def test_graphs(program: list[tuple[str, int, int]]) -> None:
    """A random program over matrices, some of it in place: the result and all gradients."""
    generator = pt.Generator().manual_seed(5)
    values = [pt.randn(3, 3, generator=generator, dtype=pt.float64) for _ in range(3)]

    def run(m: Any, leaves: list[Any]) -> Any:
        pool = list(leaves)
        for name, i, j in program:
            x, y = pool[i % len(pool)], pool[j % len(pool)]
            match name:
                case "add" | "mul" | "sub" | "matmul":
                    pool.append(getattr(m, name)(x, y) * 0.5)
                case "tanh":
                    pool.append(m.tanh(x))
                case "exp":
                    pool.append(m.exp(m.tanh(x)))
                case "transpose":
                    pool.append(x.t())
                case "slice":
                    pool.append(m.cat([x[1:], y[:1]]))
                case "sum":
                    pool.append(x + y.sum(1, keepdim=True) * 0.1)
                case "cat":
                    pool.append(m.cat([x, y], 1)[:, i % 4 : i % 4 + 3])
                case "setrow":  # fresh memory, then a change in place through a view
                    z = x * 1.0
                    z[j % 3] = y[i % 3]
                    pool.append(z)
                case _:
                    z = x * 1.0
                    z.t()[j % 3].mul_(y[0])
                    pool.append(z)
        total = pool[-1]
        for x in pool[len(leaves) :]:
            total = total + x * 0.3
        return total.sum()

    mine, yours = (
        [ours(v).requires_grad_() for v in values],
        [v.clone().requires_grad_() for v in values],
    )
    a, b = run(vt, mine), run(pt, yours)
    same(a, b, 1e-9)
    a.backward()
    b.backward()
    for x, y in zip(mine, yours, strict=True):
        if y.grad is not None:
            same(x.grad, y.grad, 1e-8)
        else:
            assert x.grad is None
