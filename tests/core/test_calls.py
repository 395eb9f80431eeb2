"""How calls are matched with signatures: positions, keywords, overloads, and the errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as pt

import vibetensor.torch as vt
from vibetensor import _C

T = vt.ones(2, 3)


def same(ours: Any, theirs: pt.Tensor) -> None:
    assert tuple(ours.shape) == tuple(theirs.shape) and str(ours.dtype) == str(theirs.dtype)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda m, t: m.zeros(2, 3),
        lambda m, t: m.zeros((2, 3)),
        lambda m, t: m.zeros([2, 3], dtype=m.int64),
        lambda m, t: m.zeros(()),
        lambda m, t: m.zeros(size=(2,)),
        lambda m, t: m.ones(t.shape),
        lambda m, t: m.zeros(2, dtype=None, device=None),
        lambda m, t: m.full((2,), 3),
        lambda m, t: m.full(size=(2,), fill_value=3.5),
        lambda m, t: m.arange(5),
        lambda m, t: m.arange(1, 5),
        lambda m, t: m.arange(1, 5, 2.0),
        lambda m, t: m.arange(start=1, end=5),
        lambda m, t: m.arange(np.int64(4)),
        lambda m, t: t.view(3, 2),
        lambda m, t: t.view((3, 2)),
        lambda m, t: t.view([-1]),
        lambda m, t: t.view(-1),
        lambda m, t: t.reshape(np.int32(3), np.int64(2)),
        lambda m, t: t.permute(1, 0),
        lambda m, t: t.permute((1, 0)),
        lambda m, t: m.permute(t, (1, 0)),
        lambda m, t: t.sum(),
        lambda m, t: t.sum(1),
        lambda m, t: t.sum((0, 1)),
        lambda m, t: t.sum(dim=1, keepdim=True),
        lambda m, t: t.sum(axis=1, keepdims=True),
        lambda m, t: m.sum(input=t, dim=0),
        lambda m, t: t.sum(-1, True, dtype=m.float64),
        lambda m, t: t.max(),
        lambda m, t: t.max(1).values if m is pt else t.max(1)[0],
        lambda m, t: t.max(dim=1, keepdim=True)[1],
        lambda m, t: m.max(t, t * 2),
        lambda m, t: m.add(t, t, alpha=2),
        lambda m, t: t.add(1),
        lambda m, t: m.add(t, other=2.5),
        lambda m, t: t + np.float32(2),
        lambda m, t: t + np.float64(2),
        lambda m, t: t * np.int64(3),
        lambda m, t: t + np.ones(3),
        lambda m, t: t + True,
        lambda m, t: 2**t,
        lambda m, t: t**2,
        lambda m, t: 1 / t,
        lambda m, t: 5 - t,
        lambda m, t: 7 // t,
        lambda m, t: 7 % (t + 1),
        lambda m, t: -t,
        lambda m, t: t @ t.T,
        lambda m, t: (t > 0) & (t < 5),
        lambda m, t: ~(t > 0),
        lambda m, t: m.cat([t, t], 1),
        lambda m, t: m.cat((t, t), dim=0),
        lambda m, t: t.split(2, dim=1)[1],
        lambda m, t: t.split([1, 2], 1)[1],
        lambda m, t: m.arange(60).split([4, 0, 7, 1, 2, 3, 5, 8, 9, 10, 11])[-1],
        lambda m, t: m.arange(60).split((1,) * 60)[59],
        lambda m, t: m.stack(m.zeros(0, 2).chunk(11)),
        lambda m, t: t.clamp(max=0.5),
        lambda m, t: t.clamp(None, 0.5),
        lambda m, t: m.add(t, t, out=m.empty(2, 3)),
        lambda m, t: m.exp(t, out=None),
        lambda m, t: m.nn.functional.linear(t, t, None),
        lambda m, t: m.where(t > 0, t, 0.0),
    ],
)
def test_calls_that_torch_takes(call: Any) -> None:
    same(call(vt, vt.ones(2, 3)), call(pt, pt.ones(2, 3)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: vt.add(T), ["add()", "'other'", "missing", "Tensor|Number other"]),
        (lambda: vt.add(), ["'self'", "missing"]),
        (lambda: vt.add(T, T, T), ["at most 2 positional", "got 3"]),
        (lambda: vt.add(T, T, beta=1), ["no argument 'beta'", "alpha"]),
        (lambda: vt.add(T, T, other=T), ["'other' twice"]),
        (lambda: T.add(1, self=T), ["'self' twice"]),
        (lambda: vt.add(T, "x"), ["add()", "'other'", "Tensor or a number", "not str"]),
        (lambda: vt.add([1], T), ["'self'", "must be a Tensor", "not list"]),
        (lambda: vt.add(None, T), ["'self'", "not NoneType"]),
        (lambda: vt.zeros(2.5), ["zeros()", "'size'", "float"]),
        (lambda: vt.zeros(True), ["'size'", "bool"]),
        (lambda: vt.zeros((2, "3")), ["'size'", "must hold ints", "str"]),
        (lambda: vt.zeros(2, dtype="float32"), ["'dtype'", "a dtype", "not str"]),
        (lambda: vt.zeros(2, device=1.5), ["'device'", "float"]),
        (lambda: T.sum(keepdim=1), ["'keepdim'", "a bool", "not int"]),
        (lambda: T.sum("0"), ["'dim'", "str"]),
        (lambda: vt.cat(T), ["'tensors'", "list of Tensors"]),
        (lambda: vt.cat([T, 1]), ["number 1", "int"]),
        (lambda: T.split(1.5), ["no form", "(Tensor, float)", "split_size"]),
        (lambda: T.max(0, 1, 2, 3), ["no form", "(Tensor, int, int, int, int)"]),
        (lambda: vt.exp(T, out=1), ["'out'", "not int"]),
        (lambda: vt.nn.functional.gelu(T, approximate=1), ["'approximate'", "a str", "not int"]),
        (lambda: T + {}, ["unsupported operand"]),
        (lambda: np.ones(3) * T, ["unsupported operand"]),
    ],
)
def test_wrong_calls_say_what_is_wrong(call: Any, words: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: vt.ones(2, 3) + vt.ones(4), RuntimeError, ["[2, 3]", "[4]", "dim 1", "f32"]),
        (lambda: vt.ones(2, 3).view(5), RuntimeError, ["view", "[5]", "6"]),
        (lambda: vt.ones(2, 3) @ vt.ones(2, 3), RuntimeError, ["matmul", "[2, 3]"]),
        (lambda: vt.ones(2).sum(3), IndexError, ["3", "[-1, 0]"]),
        (lambda: vt.zeros(-1), RuntimeError, ["negative", "-1"]),
        (lambda: vt.zeros(1 << 40, 1 << 40), RuntimeError, ["too many"]),
        (lambda: vt.ones(*[1] * 9), RuntimeError, ["8"]),
        (lambda: vt.zeros(2**70), OverflowError, ["zeros()", "'size'", str(2**70), "64 bits"]),
        (lambda: T.sum(-(2**70)), OverflowError, ["sum()", "'dim'", str(-(2**70))]),
        (lambda: T.split(2**70), OverflowError, ["split()", "'split_size'"]),
        (lambda: vt.cat([]), (RuntimeError, ValueError), []),
        (lambda: vt.ones(2, dtype=vt.int64).requires_grad_(), RuntimeError, ["floating"]),
    ],
)
def test_wrong_values(call: Any, error: Any, words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_out_takes_no_part_in_history() -> None:
    target = vt.empty(2, 3)
    assert vt.add(T, 1.0, out=target) is target and target[0, 0].item() == 2
    leaf = vt.ones(2, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="out="):
        vt.add(T, T, out=leaf)


def test_errors_have_the_types_that_are_exported() -> None:
    assert issubclass(_C.OutOfMemoryError, RuntimeError)
    assert issubclass(_C.FabricTimeoutError, _C.FabricError)
    with pytest.raises(_C.OutOfMemoryError):
        vt.empty(1 << 50, dtype=vt.uint8)


def test_in_place_operators_keep_the_object() -> None:
    t = vt.ones(2)
    same_object = t
    t += 1
    t *= vt.tensor([2.0, 3.0])
    t -= 1.0
    t /= 2
    assert t is same_object and t.tolist() == [1.5, 2.5]


def test_every_operator_has_a_text_signature() -> None:
    for place in ("torch", "nn.functional"):
        for name in _C.exposed[place]:
            assert getattr(_C.ops, name).__doc__.startswith(f"{name}(")
    for name in _C.exposed["method"]:
        assert hasattr(vt.Tensor, name)
