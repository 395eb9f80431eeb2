"""Backward passes of several streams that meet at one leaf, in whatever order a GPU runs them."""

from __future__ import annotations

import threading

import pytest

import vibetensor.torch as vt
from vibetensor import _C

SIZE = 4096  # of a square weight: its gradient's product takes about a millisecond

pytestmark = pytest.mark.cuda


def weight(bound: bool) -> vt.Tensor:
    leaf = vt.ones(SIZE, SIZE, device="cuda").requires_grad_()
    if bound:
        _C.bind_grad(leaf, vt.zeros(SIZE, SIZE, device="cuda"))
    return leaf


def add_rows(leaf: vt.Tensor, rows: int) -> None:
    """A pass on the current stream that adds `rows` to every element of the leaf's gradient."""
    inputs = vt.ones(rows, SIZE, device="cuda")
    vt.nn.functional.linear(inputs, leaf).sum().backward()


@pytest.mark.parametrize("bound", [False, True], ids=["own memory", "bound"])
def test_a_pass_follows_the_one_of_another_stream(bound: bool) -> None:
    leaf = weight(bound)
    slow, quick = vt.cuda.Stream(), vt.cuda.Stream()
    for _ in range(3):
        leaf.grad = None
        vt.cuda.synchronize()
        with vt.cuda.stream(slow):
            add_rows(leaf, SIZE)
        with vt.cuda.stream(quick):
            add_rows(leaf, 1)
        vt.cuda.synchronize()
        assert leaf.grad is not None
        assert leaf.grad.amin().item() == leaf.grad.amax().item() == SIZE + 1


@pytest.mark.parametrize("bound", [False, True], ids=["own memory", "bound"])
def test_threads_with_streams_of_their_own_add_to_one_leaf(bound: bool) -> None:
    leaf = weight(bound)
    vt.cuda.synchronize()
    counts, passes = (1024, 256, 16, 1), 12
    failures: list[BaseException] = []

    def work(rows: int) -> None:
        try:
            with vt.cuda.stream(vt.cuda.Stream()):
                for _ in range(passes):
                    add_rows(leaf, rows)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(rows,)) for rows in counts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    vt.cuda.synchronize()
    assert leaf.grad is not None
    total = passes * sum(counts)
    assert leaf.grad.amin().item() == leaf.grad.amax().item() == total


def test_backward_of_an_operation_is_on_the_stream_of_its_forward() -> None:
    side, other = vt.cuda.Stream(), vt.cuda.Stream()
    busy = vt.ones(SIZE, SIZE, device="cuda")
    leaf = vt.ones(1000, device="cuda", requires_grad=True)
    seen: list[object] = []
    for i in range(1, 4):
        leaf.grad = None
        vt.cuda.synchronize()
        with vt.cuda.stream(side):
            for _ in range(4):
                busy @ busy  # forward is not done when backward is called
            doubled = leaf * (2.0 * i)
            doubled.register_hook(lambda grad: seen.append(vt.cuda.current_stream()))
            squared = doubled * doubled
        with vt.cuda.stream(other):
            other.wait_stream(side)
            loss = (squared * 3.0).sum()
        home = vt.cuda.current_stream()
        loss.backward()  # on a stream that waits for none of them
        assert vt.cuda.current_stream() == home
        with vt.cuda.stream(side):
            del doubled, squared, loss
            vt.full((1000,), -1.0, device="cuda")  # may have their memory
        assert float(leaf.grad.min()) == float(leaf.grad.max()) == 24.0 * i * i
    assert seen == [side] * 3
    (grad,) = vt.autograd.grad((leaf * 5.0).sum(), [leaf])
    assert float(grad.sum()) == 5000


def test_backward_in_a_capture_stays_on_the_captured_stream() -> None:
    leaf = vt.ones(100, device="cuda", requires_grad=True)
    doubled = leaf * 2.0  # eagerly, on the default stream
    graph = vt.cuda.CUDAGraph()
    with vt.cuda.graph(graph):
        (grad,) = vt.autograd.grad((doubled * 3.0).sum(), [leaf])
    graph.replay()
    assert float(grad.sum()) == 600
