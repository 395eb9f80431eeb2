"""Custom functions: forward and backward in Python, as part of the graph."""

from __future__ import annotations

from typing import Any

import pytest
from vibetensor.torch.autograd import Function

import vibetensor.torch as vt


class Cube(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grad * 3 * x * x


class Halves(Function):
    """Two tensors and a number in, two tensors out."""

    @staticmethod
    def forward(ctx: Any, a: Any, factor: float, b: Any) -> Any:
        ctx.factor = factor
        ctx.wanted = ctx.needs_input_grad
        return a * factor, b / 2

    @staticmethod
    def backward(ctx: Any, grad_a: Any, grad_b: Any) -> Any:
        return grad_a * ctx.factor, None, grad_b / 2


class Exp(Function):
    """Saves its own output."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x.exp()
        ctx.save_for_backward(y, None)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        y, nothing = ctx.saved_tensors
        assert nothing is None
        return grad * y


class SignAndValue(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        sign = x.sign()
        ctx.mark_non_differentiable(sign)
        return sign, x * 2

    @staticmethod
    def backward(ctx: Any, grad_sign: Any, grad: Any) -> Any:
        assert grad_sign.tolist() == [0.0, 0.0]
        return grad * 2


class Wrong(Function):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        return x + y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad


def test_gradient() -> None:
    x = vt.tensor([2.0, -1.0], requires_grad=True)
    y = Cube.apply(x)
    assert y.tolist() == [8.0, -1.0] and y.grad_fn.name() == "CubeBackward"
    (y * 2).sum().backward()
    assert x.grad.tolist() == [24.0, 6.0]
    with pytest.raises(RuntimeError, match=r"second time|freed"):
        y.sum().backward()


def test_gradient_of_the_gradient() -> None:
    x = vt.tensor([2.0], requires_grad=True)
    (first,) = vt.autograd.grad(Cube.apply(x), x, create_graph=True)
    (second,) = vt.autograd.grad(first, x)
    assert first.tolist() == [12.0] and second.tolist() == [12.0]


def test_several_inputs_and_outputs() -> None:
    a = vt.ones(2, requires_grad=True)
    b = vt.ones(2, requires_grad=True)
    first, second = Halves.apply(a, 3.0, b)
    assert first.tolist() == [3.0, 3.0] and second.tolist() == [0.5, 0.5]
    first.sum().backward()
    assert a.grad.tolist() == [3.0, 3.0] and b.grad.tolist() == [0.0, 0.0]


def test_saved_outputs_and_constant_outputs() -> None:
    x = vt.tensor([0.0, 1.0], requires_grad=True)
    Exp.apply(x).sum().backward()
    assert x.grad.tolist() == x.detach().exp().tolist()
    x.grad = None
    sign, value = SignAndValue.apply(x)
    assert not sign.requires_grad and value.requires_grad
    value.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_without_gradients_nothing_is_recorded() -> None:
    assert not Cube.apply(vt.ones(1)).requires_grad
    with vt.no_grad():
        assert not Cube.apply(vt.ones(1, requires_grad=True)).requires_grad


def test_saved_tensors_must_not_change() -> None:
    x = vt.ones(2, requires_grad=True)
    y = x * 2
    z = Cube.apply(y)
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified"):
        z.sum().backward()


def test_wrong_functions_are_explained() -> None:
    x = vt.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"WrongBackward.*expected 2, got 1"):
        Wrong.apply(x, x).sum().backward()
    with pytest.raises(NotImplementedError, match="static forward"):
        Function.apply(x)
