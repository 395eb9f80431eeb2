"""Backward over several CPU devices, from several threads, beside a busy Python thread."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
import torch as pt
from oracle_graph import check, leaf

import vibetensor
import vibetensor.torch as vt
from vibetensor import _C

DEVICES = ("cpu:0", "cpu:1", "cpu:2", "cpu:3")


@pytest.fixture(autouse=True, scope="module")
def four_devices() -> None:
    if _C.device_count("cpu") < 4:
        vibetensor.set_cpu_devices(4)


def test_a_graph_over_four_devices() -> None:
    w = pt.randn(4, 4, dtype=pt.float64)
    mine, yours = leaf(w), w.clone().requires_grad_()
    total, expected = 0.0, 0.0
    for i, device in enumerate(DEVICES):
        x = (mine * (i + 1)).to(device).exp()
        assert str(x.device) == device
        total = total + (x @ x).to("cpu:0").sum()
        y = (yours * (i + 1)).exp()
        expected = expected + (y @ y).sum()
    total.backward()
    expected.backward()
    assert str(mine.grad.device) == "cpu:0"
    check(mine.grad, yours.grad)


def test_a_chain_that_walks_over_the_devices() -> None:
    x = vt.ones(3, requires_grad=True)
    y = x
    for i in range(400):
        y = (y * 1.0).to(DEVICES[i % 4]) + 1.0
    y.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]


def test_leaves_on_every_device() -> None:
    leaves = [
        vt.full((3,), float(i + 1), device=d, requires_grad=True) for i, d in enumerate(DEVICES)
    ]
    product = leaves[0]
    for other in leaves[1:]:
        product = product.to(other.device) * other
    product.sum().backward()
    for i, x in enumerate(leaves):
        assert str(x.grad.device) == DEVICES[i] and x.grad.tolist() == [24 / (i + 1)] * 3


def test_create_graph_over_devices() -> None:
    x = vt.ones(3, requires_grad=True)
    y = ((x * 2).to("cpu:1") ** 3).to("cpu:2").sum()
    (g,) = vt.autograd.grad(y, [x], create_graph=True)
    g.sum().backward()
    assert g.tolist() == [24] * 3 and x.grad.tolist() == [48] * 3


def test_an_error_on_one_device_reaches_the_caller() -> None:
    x = vt.ones(3, requires_grad=True)
    parts = [(x * 2).to(d) for d in DEVICES]

    def fail(grad: Any) -> None:
        raise ValueError("on cpu:2")

    parts[2].register_hook(fail)
    total = sum(p.to("cpu:0").sum() for p in parts)
    with pytest.raises(ValueError, match="on cpu:2"):
        total.backward()
    (x * 2).to("cpu:2").sum().backward()  # the worker lives on


def test_a_hook_may_run_backward_itself() -> None:
    x = vt.ones(3, requires_grad=True)
    other = vt.ones(3, requires_grad=True)

    def inner(grad: Any) -> None:
        with vt.enable_grad():
            ((other * 2).to("cpu:1").sum() + (other * 3).to("cpu:2").sum().to("cpu:1")).backward()

    y = (x * 2).to("cpu:1")
    y.register_hook(inner)
    (y.sum() + (x * 3).to("cpu:2").sum().to("cpu:1")).backward()
    assert x.grad.tolist() == [5, 5, 5] and other.grad.tolist() == [5, 5, 5]


def test_threads_run_backward_at_the_same_time() -> None:
    shared = vt.ones(50, requires_grad=True)
    failures: list[BaseException] = []

    def work(device: str) -> None:
        try:
            for _ in range(30):
                own = vt.ones(50, device=device, requires_grad=True)
                y = (shared.to(device) * own).exp().sum()
                y.backward()
                pt.testing.assert_close(pt.tensor(own.grad.tolist()), pt.full((50,), 2.718281828))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(d,)) for d in DEVICES]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures
    pt.testing.assert_close(
        pt.tensor(shared.grad.tolist()), pt.full((50,), 2.718281828 * 120), rtol=1e-4, atol=1e-3
    )


def test_threads_have_their_own_grad_mode() -> None:
    seen = []
    with vt.no_grad():
        t = threading.Thread(target=lambda: seen.append(vt.is_grad_enabled()))
        t.start()
        t.join()
        assert not vt.is_grad_enabled()
    assert seen == [True]


def test_a_spinning_thread_runs_while_backward_does() -> None:
    """Backward holds no GIL: a Python thread goes on while a pass runs."""
    x = vt.randn(500, 500, requires_grad=True)

    def graph() -> Any:
        y = x
        for _ in range(20):
            y = (y @ x) * 0.01
        return y.sum()

    def timed() -> float:
        loss = graph()
        start = time.perf_counter()
        loss.backward()
        return time.perf_counter() - start

    counts = [0]
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            counts[0] += 1

    timed()
    spinner = threading.Thread(target=spin)
    spinner.start()
    try:
        loss = graph()
        before = counts[0]
        loss.backward()
        assert counts[0] > before  # it ran meanwhile
    finally:
        stop.set()
        spinner.join()


def test_results_do_not_depend_on_the_devices_used() -> None:
    values = pt.randn(64, 64)
    grads = []
    for devices in (DEVICES[:1], DEVICES):
        x = leaf(values)
        total = 0.0
        for i in range(4):
            d = devices[i % len(devices)]
            total = total + (x.to(d) @ x.to(d)).tanh().to("cpu:0").sum()
        total.backward()
        grads.append(x.grad)
    check(grads[0], pt.from_dlpack(grads[1].detach()).clone(), rtol=1e-6, atol=1e-5)


@pytest.mark.cuda
def test_gradients_that_pass_from_stream_to_stream_are_waited_for() -> None:
    """Parts of a forward pass on two streams of a GPU and on the CPU, so that workers run it."""
    numbers = np.random.default_rng(2)
    wide = vt.from_numpy(numbers.standard_normal((1500, 1500)).astype(np.float32)).cuda() / 40
    first = vt.from_numpy(numbers.standard_normal((1500, 1500)).astype(np.float32))
    beside = vt.from_numpy(numbers.standard_normal((1500,)).astype(np.float32))

    def gradients(streams: list[vt.cuda.Stream]) -> list[bytes]:
        leaf = first.cuda().requires_grad_()
        on_cpu = beside.clone().requires_grad_()
        x = leaf * 1.0
        y = on_cpu.cuda()
        main = vt.cuda.current_stream()
        for i in range(6):
            stream = streams[i % len(streams)]
            stream.wait_stream(main)
            for other in streams:
                stream.wait_stream(other)
            with vt.cuda.stream(stream):
                x = (x @ wide) * 0.5 + y + leaf * (0.1 * i)
        for stream in streams:
            main.wait_stream(stream)
        (x * x).sum().backward()
        assert leaf.grad is not None and on_cpu.grad is not None
        seen = leaf.grad * 1.0  # on the stream of the caller, without waiting
        return [np.array(seen.cpu()).tobytes(), np.array(on_cpu.grad).tobytes()]

    expected = gradients([vt.cuda.current_stream()])
    several = [vt.cuda.Stream() for _ in range(2)]
    for _ in range(10):
        assert gradients(several) == expected
    assert vt.cuda.current_stream().cuda_stream == vt.cuda.default_stream().cuda_stream
