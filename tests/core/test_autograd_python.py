"""Autograd seen from Python: hooks, modes, backward and grad calls, nodes, threads, the GIL."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import Any

import pytest

import vibetensor.torch as vt


def leaf(*values: float) -> Any:
    return vt.tensor([float(v) for v in values], requires_grad=True)


def test_backward_arguments() -> None:
    x = leaf(1, 2)
    y = x * x
    y.backward(vt.tensor([1.0, 10.0]), retain_graph=True)
    assert x.grad.tolist() == [2, 40]
    y.sum().backward()
    assert x.grad.tolist() == [4, 44]
    with pytest.raises(RuntimeError, match="second time"):
        y.backward(vt.ones(2))
    with pytest.raises(RuntimeError, match="scalar"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match="does not require grad"):
        vt.ones(1).backward()
    with pytest.raises(TypeError, match="number 0 is str"):
        (x * 2).backward(["a"])
    with pytest.raises(TypeError, match="no argument 'graph'"):
        (x * 2).backward(graph=True)


def test_backward_into_some_inputs() -> None:
    a, b = leaf(2), leaf(3)
    (a * b).backward(inputs=[a])
    assert a.grad.tolist() == [3] and b.grad is None
    (a * b).backward(inputs=[a])
    assert a.grad.tolist() == [6]


def test_grad() -> None:
    x, unused = leaf(3), leaf(1)
    y = x**3
    (first,) = vt.autograd.grad(y, x, create_graph=True)
    (second,) = vt.autograd.grad(first, x)
    assert first.item() == 27 and second.item() == 18 and x.grad is None
    with pytest.raises(RuntimeError, match="allow_unused"):
        vt.autograd.grad(x * 2, [x, unused])
    assert vt.autograd.grad(x * 2, [x, unused], allow_unused=True)[1] is None


def test_hooks() -> None:
    x = leaf(1, 2)
    seen: list[Any] = []
    y = x * 2
    handle = y.register_hook(lambda g: seen.append(g.tolist()))
    doubling = x.register_hook(lambda g: g * 2)
    y.sum().backward()
    assert seen == [[1, 1]] and x.grad.tolist() == [4, 4]
    handle.remove()
    handle.remove()
    doubling.remove()
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="hook"):
        vt.ones(1).register_hook(print)
    with pytest.raises(TypeError, match="callable"):
        x.register_hook(1)


def test_errors_in_hooks_arrive() -> None:
    x = leaf(1)
    y = x * 2

    def fail(grad: Any) -> None:
        raise KeyError("from the hook")

    y.register_hook(fail)
    with pytest.raises(KeyError, match="from the hook"):
        y.backward()
    z = x * 3
    z.register_hook(lambda g: "no tensor")
    with pytest.raises(TypeError, match="Tensor or None"):
        z.backward()
    w = x * 3
    w.register_hook(lambda g: vt.ones(7))
    with pytest.raises(RuntimeError, match="shape"):
        w.backward()


def test_hooks_do_not_leak() -> None:
    class Payload:
        pass

    payload = Payload()
    ref = weakref.ref(payload)
    x = leaf(1)
    y = x * 2
    y.register_hook(lambda g, held=payload: None)
    y.backward()
    del y, payload
    gc.collect()
    assert ref() is None


def test_post_accumulate_hook() -> None:
    x = leaf(1, 2)
    seen: list[Any] = []
    x.register_post_accumulate_grad_hook(lambda p: seen.append((p is x, p.grad.tolist())))
    (x * 3).sum().backward()
    assert seen == [(True, [3, 3])]
    with pytest.raises(RuntimeError, match="leaf"):
        (x * 2).register_post_accumulate_grad_hook(print)


def test_retain_grad() -> None:
    x = leaf(2)
    y = x * 3
    y.retain_grad()
    (y * y).backward()
    assert y.grad.item() == 12 and x.grad.item() == 36


def test_nodes() -> None:
    x = leaf(2)
    y = (x * 3).exp()
    node = y.grad_fn
    assert "Exp" in node.name() and x.grad_fn is None and x.is_leaf and not y.is_leaf
    (before, slot), *_ = node.next_functions
    assert "Mul" in before.name() and slot == 0
    assert before.next_functions[0][0].name() == "AccumulateGrad"
    assert y.grad_fn == node and hash(y.grad_fn) == hash(node)


def test_modes() -> None:
    x = leaf(1)
    with vt.no_grad():
        assert not (x * 2).requires_grad and not vt.is_grad_enabled()
        with vt.enable_grad():
            assert (x * 2).requires_grad
    assert (x * 2).requires_grad
    states: list[bool] = []
    with vt.no_grad():
        thread = threading.Thread(target=lambda: states.append(vt.is_grad_enabled()))
        thread.start()
        thread.join()
    assert states == [True]


def test_requires_grad_rules() -> None:
    x = leaf(1)
    y = x * 2
    with pytest.raises(RuntimeError, match="leaf"):
        y.requires_grad = False
    with pytest.raises(TypeError, match="bool"):
        x.requires_grad = 1
    x.requires_grad_(False)
    assert not (x * 2).requires_grad
    assert y.detach().requires_grad is False and y.detach().data_ptr() == y.data_ptr()


def test_backward_passes_of_threads_do_not_meet() -> None:
    weights = [vt.ones(64, 64, requires_grad=True) for _ in range(4)]
    failures: list[BaseException] = []

    def work(w: Any) -> None:
        try:
            for _ in range(20):
                w.grad = None
                ((w @ w).sum() * 2).backward()
                assert w.grad[0, 0].item() == 256
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(w,)) for w in weights]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_backward_runs_without_the_gil() -> None:
    x = vt.ones(400, 400, requires_grad=True)
    y = x
    for _ in range(10):
        y = y @ x * 1e-3
    loss = y.sum()
    ticks = 0
    done = threading.Event()

    def spin() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1
            time.sleep(0)

    thread = threading.Thread(target=spin)
    thread.start()
    time.sleep(0.01)
    before = ticks
    loss.backward()
    during = ticks - before
    done.set()
    thread.join()
    assert during > 10


@pytest.mark.parametrize("devices", [2, 3])
def test_a_graph_over_several_devices(devices: int) -> None:
    vt_devices = [vt.device(f"cpu:{i}") for i in range(devices)]
    import vibetensor

    vibetensor.set_cpu_devices(devices)
    x = leaf(1, 2)
    parts = [(x.to(d) * (i + 1)) for i, d in enumerate(vt_devices)]
    assert [p.device for p in parts] == vt_devices
    seen: list[str] = []
    parts[-1].register_hook(lambda g: seen.append(str(g.device)))
    total = parts[0]
    for part in parts[1:]:
        total = total + part.to("cpu")
    total.sum().backward()
    assert x.grad.tolist() == [sum(range(1, devices + 1))] * 2
    assert seen == [str(vt_devices[-1])]
    with pytest.raises(RuntimeError, match="device"):
        parts[0] + parts[1]
