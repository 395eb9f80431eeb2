"""Graphs give their memory back: after backward, when dropped, and without reference cycles.

Tensors here are larger than 4 KiB: smaller blocks are not counted one by one.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import vibetensor.torch as vt
from vibetensor import _C


def allocated() -> int:
    return int(_C.memory_stats("cpu")["allocated"])


@pytest.fixture(autouse=True)
def no_cycles() -> Any:
    """What must go has to go without the collector's help."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def settle() -> int:
    vt.ones(4).sum().item()
    return allocated()


def test_saved_tensors_go_after_backward() -> None:
    x = vt.ones(2048, requires_grad=True)
    before = settle()
    y = x.exp().sin().tanh().sum()
    during = allocated()
    y.backward()
    assert during >= before + 2 * 8192
    assert allocated() <= before + 8192  # x.grad and y
    x.grad = None
    del y
    assert allocated() == before


def test_a_graph_that_is_dropped_goes() -> None:
    x = vt.ones(2048, requires_grad=True)
    before = settle()
    y = ((x.exp() * x).sin() @ x).tanh()
    assert allocated() > before
    del y
    assert allocated() == before


@pytest.mark.parametrize("change", ["mul", "row", "copy", "view", "exp"])
def test_in_place_makes_no_cycle(change: str) -> None:
    x = vt.ones(10, 2048, requires_grad=True)
    w = vt.ones(2048, requires_grad=True)
    before = settle()
    for _ in range(5):
        y = x * 2
        if change == "mul":
            y.mul_(w)
        elif change == "row":
            y[0] = w
        elif change == "copy":
            y.copy_(w)
        elif change == "view":
            y.view(-1)[10:20].mul_(2.0)
        else:
            y.exp_()
        del y
    assert allocated() == before
    y = x * 2
    y.mul_(w)
    y[0] = w * 2
    y.sum().backward()
    del y
    x.grad = w.grad = None
    assert allocated() == before


def test_hooks_and_retained_gradients_make_no_cycle() -> None:
    x = vt.ones(2048, requires_grad=True)
    before = settle()
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 2)
    y.sum().backward()
    x.grad = None
    del y
    assert allocated() == before


def test_second_derivatives_go() -> None:
    x = vt.ones(2048, requires_grad=True)
    before = settle()
    (g,) = vt.autograd.grad((x * x * x).sum(), [x], create_graph=True)
    g.sum().backward()
    del g
    x.grad = None
    assert allocated() == before


def test_a_failed_backward_leaks_nothing() -> None:
    x = vt.ones(2048, requires_grad=True)
    before = settle()

    def run() -> None:
        y = x.exp()
        z = (y * y).sum()
        with vt.no_grad():
            y.add_(1)
        with pytest.raises(RuntimeError, match="inplace"):
            z.backward()

    run()
    x.grad = None
    assert allocated() == before


def test_python_objects_go_with_the_graph() -> None:
    class Watched:
        def __call__(self, grad: Any) -> None:
            return None

    hook = Watched()
    watch = weakref.ref(hook)
    x = vt.ones(3, requires_grad=True)
    y = x * 2
    y.register_hook(hook)
    del hook
    assert watch() is not None
    y.sum().backward()
    del y
    assert watch() is None


def test_training_reaches_a_steady_state() -> None:
    model = vt.nn.Sequential(vt.nn.Linear(64, 128), vt.nn.Tanh(), vt.nn.Linear(128, 64))
    x = vt.randn(32, 64)
    levels = []
    for _ in range(6):
        loss = (model(x) ** 2).mean()
        loss.backward()
        for p in model.parameters():
            p.grad = None
        del loss
        levels.append(allocated())
    assert levels[-1] == levels[1]
