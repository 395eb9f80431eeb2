"""Several communicators at once: their kernels never keep each other from starting."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import pytest

import vibetensor.torch as torch
from vibetensor import collectives, fabric

TIMEOUT = 4.0  # seconds; what waits for ever ends then, with an error


def parts(mesh: fabric.Mesh, mebibytes: int) -> list[Any]:
    return [torch.ones(mebibytes << 18, device=device) for device in mesh.devices]


@pytest.mark.cuda(devices=2)
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("mebibytes", [1, 32])
def test_each_comes_first_on_one_gpu(ranks: int, mebibytes: int) -> None:
    mesh = fabric.mesh(["cuda:0", "cuda:1"] * ranks)
    comms = [collectives.Communicator(mesh, timeout=TIMEOUT) for _ in range(2)]
    tensors = [parts(mesh, mebibytes) for _ in comms]
    slow = [torch.ones(4 << 20, device=f"cuda:{i}") for i in range(2)]
    other = [torch.zeros_like(t) for t in slow]
    streams = [[torch.cuda.Stream(f"cuda:{i}") for i in range(2)] for _ in comms]
    for device in range(2):
        torch.cuda.synchronize(device)
    works = []
    for _ in range(5):
        for k, comm in enumerate(comms):
            with ExitStack() as stack:
                for stream in streams[k]:
                    stack.enter_context(torch.cuda.stream(stream))
                for _ in range(100):  # a millisecond: the other one is first on GPU k
                    other[k].copy_(slow[k])
                works.append(comm.all_reduce(tensors[k], "avg", out=tensors[k], async_op=True))
    for work in works:
        work.synchronize()
    for tensor in (t for each in tensors for t in each):
        assert bool((tensor == 1).all())


@pytest.mark.cuda(devices=2)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("in_line", [True, False])
@pytest.mark.parametrize("ranks", [1, 2])
def test_each_comes_first_on_one_gpu_in_a_graph(ranks: int, in_line: bool, whole: bool) -> None:
    devices = ["cuda:0", "cuda:1"]
    mesh = fabric.mesh(devices * ranks)
    comms = [collectives.Communicator(mesh, timeout=TIMEOUT) for _ in range(2)]
    tensors = [parts(mesh, 32) for _ in comms]
    slow = [torch.ones(4 << 20, device=device) for device in devices]
    other = [torch.zeros_like(t) for t in slow]
    streams = [[torch.cuda.Stream(device) for device in devices] for _ in comms]
    for device in devices:
        torch.cuda.synchronize(device)
    g = torch.cuda.CUDAGraph(devices, whole=whole)
    with torch.cuda.graph(g):
        captured = [torch.cuda.current_stream(device) for device in devices]
        for k, comm in enumerate(comms):
            with ExitStack() as stack:
                for stream, first in zip(streams[k], captured, strict=True):
                    stream.wait_stream(first)
                    stack.enter_context(torch.cuda.stream(stream))
                for _ in range(100):  # a millisecond: the other one is first on GPU k
                    other[k].copy_(slow[k])
                work = comm.all_reduce(tensors[k], "avg", out=tensors[k], async_op=not in_line)
                if not in_line:
                    work.wait()
        for k in range(len(comms)):
            for stream, first in zip(streams[k], captured, strict=True):
                first.wait_stream(stream)
    for _ in range(3):
        g.replay()
    for comm in comms:
        comm.synchronize()
    for tensor in (t for each in tensors for t in each):
        assert bool((tensor == 1).all())


@pytest.mark.cuda
@pytest.mark.parametrize("captured", [False, True])
def test_two_that_fit_on_a_gpu_in_part_only(captured: bool) -> None:
    """A first call leaves room for some blocks of the second, and its own for the third."""
    mesh = fabric.mesh(["cuda:0"] * 4)
    first = collectives.Communicator(mesh, timeout=TIMEOUT, max_blocks=16, algorithm="two_shot")
    comms = [first, *(collectives.Communicator(mesh, timeout=TIMEOUT) for _ in range(2))]
    tensors = [parts(mesh, mebibytes) for mebibytes in (128, 32, 32)]
    streams = [torch.cuda.Stream("cuda:0", priority=p) for p in (0, 0, -5)]
    torch.cuda.synchronize(0)

    def calls() -> None:
        current = torch.cuda.current_stream("cuda:0")
        for stream in streams:
            stream.wait_stream(current)
        for comm, each, stream in zip(comms, tensors, streams, strict=True):
            with torch.cuda.stream(stream):
                comm.all_reduce(each, "avg", out=each)
        for stream in streams:
            current.wait_stream(stream)

    if captured:
        g = torch.cuda.CUDAGraph([0])
        with torch.cuda.graph(g):
            calls()
        calls = g.replay
    for _ in range(3):
        calls()
    for comm in comms:
        comm.synchronize()
    for tensor in (t for each in tensors for t in each):
        assert bool((tensor == 1).all())


@pytest.mark.cuda(devices=2)
@pytest.mark.parametrize("count", [2, 4])
def test_threads_with_communicators_of_their_own(count: int) -> None:
    mesh = fabric.mesh(["cuda:0", "cuda:1"] * 2)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            comm = collectives.Communicator(mesh, timeout=TIMEOUT)
            small, large = parts(mesh, 1), parts(mesh, 16)
            streams = [torch.cuda.Stream(f"cuda:{i}") for i in range(2)]
            for device in range(2):
                torch.cuda.synchronize(device)
            with ExitStack() as stack:
                for stream in streams:
                    stack.enter_context(torch.cuda.stream(stream))
                for i in range(40):
                    tensors = (small, large)[(i + number) % 2]
                    comm.all_reduce(tensors, "avg", out=tensors)
                assert all(bool((t == 1).all()) for t in (*small, *large))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
