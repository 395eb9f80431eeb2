"""What a backward pass does: accumulation, retention, chosen inputs, hooks, modes."""

from __future__ import annotations

from typing import Any

import pytest

import vibetensor.torch as vt

# --- accumulation and retention ---


def test_gradients_accumulate_and_can_be_cleared() -> None:
    x = vt.ones(3, requires_grad=True)
    for expected in (2, 4, 6):
        (x * 2).sum().backward()
        assert x.grad.tolist() == [expected] * 3
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    x.grad.zero_()
    (x * 5).sum().backward()
    assert x.grad.tolist() == [5, 5, 5]


def test_a_second_backward_needs_retain_graph() -> None:
    x = vt.ones(3, requires_grad=True)
    y = (x.exp() * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match=r"second time.*retain_graph"):
        y.backward()


@pytest.mark.parametrize("create_graph", [False, True])
def test_leaves_never_share_a_gradient(create_graph: bool) -> None:
    x, y = vt.ones(3, requires_grad=True), vt.ones(3, requires_grad=True)
    seed = vt.ones(3)
    (x + y).backward(seed, create_graph=create_graph)
    with vt.no_grad():
        x.grad.zero_()
    assert y.grad.tolist() == [1, 1, 1] and seed.tolist() == [1, 1, 1]
    w = vt.ones(4, requires_grad=True)
    w.sum().backward(create_graph=create_graph)
    with vt.no_grad():
        w.grad[0] = 7
    assert w.grad.tolist() == [7, 1, 1, 1]


def test_grad_leaves_the_leaves_alone() -> None:
    x, y = vt.ones(3, requires_grad=True), vt.ones(3, requires_grad=True)
    (gx,) = vt.autograd.grad((x * y * 2).sum(), [x])
    assert gx.tolist() == [2, 2, 2] and x.grad is None and y.grad is None
    with pytest.raises(RuntimeError, match="not have been used"):
        vt.autograd.grad((x * 2).sum(), [y])
    assert vt.autograd.grad((x * 2).sum(), [y], allow_unused=True) == (None,)
    middle = x * 2
    (gm,) = vt.autograd.grad((middle * y).sum(), [middle])
    assert gm.tolist() == [1, 1, 1]


def test_grad_runs_only_what_leads_to_its_inputs() -> None:
    ran = []
    x, y = vt.ones(3, requires_grad=True), vt.ones(3, requires_grad=True)
    a, b = x * 2, y * 3
    b.register_hook(lambda g: ran.append("b"))
    inner = b.exp()
    inner.register_hook(lambda g: ran.append("inner"))
    vt.autograd.grad((a + inner).sum(), [x])
    assert ran == []


def test_implicit_gradients_are_for_scalars() -> None:
    x = vt.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="scalar outputs"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match=r"does not match"):
        (x * 2).backward(vt.ones(4))
    with pytest.raises(RuntimeError, match="does not require grad"):
        vt.ones(3).sum().backward()


# --- hooks ---


def test_hooks_see_and_replace_gradients() -> None:
    x = vt.ones(3, requires_grad=True)
    seen = []
    y = x * 2
    first = y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g + 1)
    (y * 3).sum().backward()
    assert seen == [[3, 3, 3]] and x.grad.tolist() == [61, 61, 61]
    first.remove()
    first.remove()
    x.grad = None
    y = x * 2
    handle = y.register_hook(lambda g: seen.append("no"))
    handle.remove()
    y.sum().backward()
    assert seen == [[3, 3, 3]]


def test_hook_errors_reach_the_caller() -> None:
    x = vt.ones(3, requires_grad=True)
    y = x * 2

    def fail(grad: Any) -> None:
        raise KeyError("from the hook")

    y.register_hook(fail)
    with pytest.raises(KeyError, match="from the hook"):
        y.sum().backward()
    z = x * 2
    z.register_hook(lambda g: vt.ones(5))
    with pytest.raises(RuntimeError, match="shape"):
        z.sum().backward()


def test_retain_grad() -> None:
    x = vt.ones(3, requires_grad=True)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward()
    assert y.grad.tolist() == [4, 4, 4] and x.grad.tolist() == [8, 8, 8]
    with pytest.raises(RuntimeError, match="requires_grad"):
        vt.ones(3).retain_grad()


def test_post_accumulate_hook_sees_the_finished_gradient() -> None:
    x = vt.ones(3, requires_grad=True)
    seen = []
    x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.tolist()))
    (x * 2 + x * 3).sum().backward()
    assert seen[-1] == [5, 5, 5]


# --- modes ---


def test_no_grad_and_detach() -> None:
    x = vt.ones(3, requires_grad=True)
    with vt.no_grad():
        y = x * 2
    assert not y.requires_grad and y.grad_fn is None
    with vt.no_grad(), vt.enable_grad():
        assert (x * 2).requires_grad
    d = (x * 2).detach()
    assert not d.requires_grad and d.is_leaf
    (x * d).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    same = x.detach()
    same[0] = 9
    assert x.tolist() == [9, 1, 1]


def test_requires_grad_is_for_float_leaves() -> None:
    with pytest.raises(RuntimeError, match="floating point"):
        vt.ones(3, dtype=vt.int64).requires_grad_()
    y = vt.ones(3, requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="leaf"):
        y.requires_grad = False
