"""Graphs of several ranks and GPUs: collectives inside, eager calls between replays, faults."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import _C, collectives, fabric, graph_trial
from vibetensor.graph_timing import seconds_in_graph

several = pytest.mark.cuda(devices=2)
MESHES = [
    pytest.param(["cuda:0"] * 2, marks=pytest.mark.cuda),
    pytest.param(["cuda:0"] * 3, marks=pytest.mark.cuda),
    pytest.param(["cuda:0"] * 4, marks=pytest.mark.cuda),
    pytest.param(["cuda:0", "cuda:1"], marks=several),
    pytest.param(["cuda:0", "cuda:1", "cuda:0", "cuda:1"], marks=several),
]
COUNTS = [1, 1000, 70001, 1 << 20]


def bits(tensor: torch.Tensor) -> bytes:
    return np.array(tensor.detach().cpu()).tobytes()


def values(names: list[str], count: int, salt: int = 0) -> list[torch.Tensor]:
    numbers = np.random.default_rng(count + salt)
    return [
        torch.from_numpy(numbers.standard_normal(count).astype(np.float32)).to(name)
        for name in names
    ]


def graph_of(names: list[str], whole: bool = True) -> torch.cuda.CUDAGraph:
    return torch.cuda.CUDAGraph(sorted(set(names)), whole=whole)


@pytest.mark.parametrize("names", MESHES)
@pytest.mark.parametrize("whole", [True, False])
def test_collectives_of_a_replay_have_the_bits_of_eager_ones(names: list[str], whole: bool) -> None:
    comm = collectives.Communicator(fabric.mesh(names))
    for count in COUNTS:
        tensors = values(names, count)
        before = [t.clone() for t in tensors]
        g = graph_of(names, whole)
        with torch.cuda.graph(g):
            for _ in range(5):
                comm.all_reduce(tensors)
            comm.broadcast(tensors, root=len(names) - 1)
            comm.barrier()
            for t in tensors:
                t.mul_(0.125)
            comm.all_reduce(tensors, "max")
        assert [bits(t) for t in tensors] == [bits(t) for t in before], "capturing ran something"
        for _ in range(3):
            g.replay()
        for _ in range(3):
            for _ in range(5):
                comm.all_reduce(before)
            comm.broadcast(before, root=len(names) - 1)
            for t in before:
                t.mul_(0.125)
            comm.all_reduce(before, "max")
        assert [bits(t) for t in tensors] == [bits(t) for t in before]


@pytest.mark.parametrize("names", MESHES)
def test_replays_mix_with_eager_calls_on_any_stream(names: list[str]) -> None:
    devices = sorted(set(names))
    comm = collectives.Communicator(fabric.mesh(names))
    graphs, held = [], []
    for count in (500, 200000):
        tensors = [torch.full((count,), 1.0, device=name) for name in names]
        g = graph_of(names)
        with torch.cuda.graph(g):
            comm.all_reduce(tensors, "avg")
            for t in tensors:
                t.add_(1.0)
            comm.all_reduce(tensors, "max")
        graphs.append(g)
        held.append(tensors)
    own = [torch.full((3000,), 1.0, device=name) for name in names]
    streams = [[torch.cuda.Stream(device) for device in devices] for _ in range(3)]
    for device in devices:  # those streams do not wait for the one that filled the tensors
        torch.cuda.synchronize(device)
    order = np.random.default_rng(3)
    rounds = [0, 0, 0]
    for _ in range(300):
        turn = int(order.integers(3))
        rounds[turn] += 1
        chosen = streams[int(order.integers(3))]
        previous = [torch.cuda.current_stream(device) for device in devices]
        for stream in chosen:
            _C.set_stream(stream)
        if turn < 2:
            graphs[turn].replay()
        else:
            comm.all_reduce(own, "min")
        for stream in previous:
            _C.set_stream(stream)
    comm.synchronize()
    for turn in range(2):
        for t in held[turn]:
            assert (np.array(t.cpu()) == 1.0 + rounds[turn]).all()
    assert all((np.array(t.cpu()) == 1.0).all() for t in own)


@pytest.mark.parametrize("names", MESHES)
def test_a_thousand_replays(names: list[str]) -> None:
    comm = collectives.Communicator(fabric.mesh(names))
    tensors = [torch.zeros(2000, device=name) for name in names]
    ones = [torch.full((2000,), 1.0, device=name) for name in names]
    g = graph_of(names)
    with torch.cuda.graph(g):
        sums = [t.clone() for t in ones]
        comm.all_reduce(sums)
        for t, s in zip(tensors, sums, strict=True):
            t.add_(s)
    reserved = torch.cuda.memory_reserved()
    for _ in range(1000):
        g.replay()
    comm.synchronize()
    assert torch.cuda.memory_reserved() == reserved
    for t in tensors:
        assert (np.array(t.cpu()) == 1000.0 * len(names)).all()


@pytest.mark.parametrize("names", MESHES[:1] + MESHES[3:4])
def test_memory_that_passes_from_rank_to_rank_is_waited_for(names: list[str]) -> None:
    """Ranks of one GPU may take each other's tensors in turn."""
    comm = collectives.Communicator(fabric.mesh(names))
    shared = len(set(names)) == 1
    a, b = values(names, 300001)
    x, y = a.clone(), b.clone()
    g = graph_of(names)
    with torch.cuda.graph(g):
        for i in range(10):
            comm.all_reduce([b, a] if shared and i % 2 else [a, b], "avg")
            a.add_(0.5)
    for _ in range(20):
        g.replay()
    for _ in range(20):
        for i in range(10):
            comm.all_reduce([y, x] if shared and i % 2 else [x, y], "avg")
            x.add_(0.5)
    assert bits(a) == bits(x)
    assert bits(b) == bits(y)


@pytest.mark.cuda
def test_a_graph_keeps_its_communicator() -> None:
    names = ["cuda:0"] * 2
    comm = collectives.Communicator(fabric.mesh(names))
    tensors = [torch.full((1000,), float(r), device="cuda") for r in range(2)]
    g = graph_of(names)
    with torch.cuda.graph(g):
        comm.all_reduce(tensors)
    del comm
    g.replay()
    torch.cuda.synchronize()
    assert (np.array(tensors[1].cpu()) == 1.0).all()
    g.reset()


@several
@pytest.mark.unsanitized("a second of products would be minutes")
@pytest.mark.parametrize("whole", [True, False])
def test_a_late_kernel_of_a_replay_is_reported_and_the_process_goes_on(whole: bool) -> None:
    names = ["cuda:0", "cuda:1"]
    comm = collectives.Communicator(fabric.mesh(names), timeout=0.1)
    tensors = [torch.full((1000,), float(r + 1), device=name) for r, name in enumerate(names)]
    slow = torch.rand(4096, 4096, device="cuda:1", dtype=torch.float64)
    slow @ slow
    good, late = graph_of(names, whole), graph_of(names, whole)
    with torch.cuda.graph(good):
        comm.all_reduce(tensors)
    with torch.cuda.graph(late):
        for _ in range(300):
            product = slow @ slow
        comm.all_reduce(tensors)
    del product
    good.replay()
    comm.synchronize()
    late.replay()
    with pytest.raises(_C.FabricTimeoutError, match=r"\(all_reduce\): .* rank 1 \(cuda:1\)"):
        comm.synchronize()
    with pytest.raises(_C.FabricTimeoutError, match="rank 1"):
        good.replay()
    for name in names:
        torch.cuda.synchronize(name)
    comm.reset()
    for r, t in enumerate(tensors):
        t.fill_(r + 1.0)
    good.replay()
    comm.all_reduce(tensors)
    good.replay()
    comm.synchronize()
    assert (np.array(tensors[0].cpu()) == 12.0).all()


@pytest.mark.cuda
@pytest.mark.unsanitized("a second of products would be minutes")
def test_ranks_of_one_gpu_that_are_late_in_a_replay_are_waited_for() -> None:
    """One kernel does the part of both, and comes when both are there, however long that takes."""
    names = ["cuda:0"] * 2
    comm = collectives.Communicator(fabric.mesh(names), timeout=0.1)
    tensors = [torch.full((1000,), float(r + 1), device="cuda") for r in range(2)]
    slow = torch.rand(4096, 4096, device="cuda", dtype=torch.float64)
    slow @ slow
    late = graph_of(names)
    main, side = torch.cuda.Stream(), torch.cuda.Stream()
    with torch.cuda.graph(late, stream=main):
        side.wait_stream(main)
        comm.arrive(0, tensors[0])
        with torch.cuda.stream(side):
            for _ in range(300):
                product = slow @ slow
            comm.arrive(1, tensors[1])
        comm.wait(0)
        comm.wait(1)
        main.wait_stream(side)
    del product
    for _ in range(2):
        late.replay()
    comm.synchronize()
    for t in tensors:
        assert (np.array(t.cpu()) == 6.0).all()


@pytest.mark.cuda
def test_a_graph_of_an_aborted_communicator_is_not_replayed() -> None:
    comm = collectives.Communicator(fabric.mesh(["cuda:0"] * 2), timeout=2.0)
    tensors = [torch.full((1000,), float(r + 1), device="cuda") for r in range(2)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        comm.all_reduce(tensors)
    comm.abort()
    with pytest.raises(_C.FabricError, match="aborted"):
        graph.replay()
    comm.reset()
    graph.replay()
    comm.synchronize()
    assert (np.array(tensors[0].cpu()) == 3.0).all()


@pytest.mark.cuda(devices=2)
def test_a_graph_must_name_all_devices_of_its_collectives() -> None:
    names = ["cuda:0", "cuda:1"]
    comm = collectives.Communicator(fabric.mesh(names))
    tensors = [torch.full((10,), 1.0, device=name) for name in names]
    g = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="cuda:1 takes no part"), torch.cuda.graph(g):
        comm.all_reduce(tensors)
    comm.all_reduce(tensors)
    comm.synchronize()
    assert float(tensors[1][0]) == 2.0


@pytest.mark.cuda(devices=2)
def test_work_of_a_gpu_that_is_not_captured_is_refused() -> None:
    x = torch.ones(4, device="cuda:1")
    g = torch.cuda.CUDAGraph([0])
    text = "work on cuda:1: cannot be captured: this is a capture of cuda:0 only"
    with pytest.raises(RuntimeError, match=text), torch.cuda.graph(g):
        x + 1
    made: list[torch.Tensor] = []
    with torch.cuda.graph(g):  # another thread's work is its own
        y = torch.ones(3, device="cuda:0") * 2
        thread = threading.Thread(target=lambda: made.append(x + 1))
        thread.start()
        thread.join()
    g.replay()
    assert float(y.sum()) == 6 and float(made[0].sum()) == 8
    assert float((x + 1).sum()) == 8

    def step(a: torch.Tensor) -> torch.Tensor:
        x.sum()
        return a + 1

    there = vibetensor.capture(lambda a: (a + x).sum(), strict=True)
    assert [float(there(torch.ones(4, device="cuda:1"))) for _ in range(4)] == [8.0] * 4
    assert there.replays == 2
    captured = vibetensor.capture(step, device="cuda:0")
    for i in range(4):
        assert float(captured(torch.full((2,), float(i))).sum()) == 2 * i + 2
    assert "work on cuda:1" in captured.reason and captured.captures == 0


@pytest.mark.cuda(devices=2)
def test_random_numbers_and_memory_of_every_device_belong_to_the_graph() -> None:
    def draw() -> list[torch.Tensor]:
        return [torch.rand(1000, device=name) for name in ("cuda:0", "cuda:1")]

    torch.manual_seed(4)
    eager = [[bits(t) for t in draw()] for _ in range(4)]
    g = torch.cuda.CUDAGraph([0, 1])
    with torch.cuda.graph(g):
        drawn = draw()
    torch.manual_seed(4)
    for i in range(4):
        if i % 2:
            found = draw()
        else:
            g.replay()
            found = drawn
        assert [bits(t) for t in found] == eager[i]
    refused = pytest.raises(RuntimeError, match="copy between devices: cannot be captured")
    with refused, torch.cuda.graph(g):
        torch.rand(10, device="cuda:0").to("cuda:1")


@pytest.mark.parametrize("names", MESHES)
def test_the_trial_finds_graphs_that_work(names: list[str]) -> None:
    ranks = [_C.device(name) for name in names]
    assert graph_trial.trial(ranks, whole=True) == ""
    assert graph_trial.trial(ranks, whole=False) == ""
    assert graph_trial.form_for(ranks) == graph_trial.Form(True, "")


@pytest.mark.cuda
def test_seconds_in_a_graph() -> None:
    comm = collectives.Communicator(fabric.mesh("cuda:0", ranks=2))
    tensors = [torch.full((1000,), 1.0, device="cuda") for _ in range(2)]
    times = seconds_in_graph(lambda: comm.all_reduce(tensors, "avg"), ["cuda:0"], replays=10)
    assert len(times) == 10
    assert 1e-7 < sorted(times)[5] < 1e-3


@pytest.mark.parametrize("names", MESHES)
def test_kernels_launched_early_change_no_bits(names: list[str]) -> None:
    mesh = fabric.mesh(names)
    for algorithm in ("packets", "lines", "packets2", "one_shot"):
        plain = collectives.Communicator(mesh, algorithm=algorithm, early_launch=False)
        early = collectives.Communicator(mesh, algorithm=algorithm, early_launch=True, timeout=2.0)
        for count in (3, 20000):
            tensors = values(names, count)
            before = [t.clone() for t in tensors]
            g = graph_of(names)
            with torch.cuda.graph(g):
                for i in range(30):
                    early.all_reduce(tensors, "avg")
                    if i % 3 == 0:
                        for rank, t in enumerate(tensors):
                            t.add_(0.25 * rank)
            for _ in range(10):
                g.replay()
                early.barrier()
                early.all_reduce(tensors, "max")
            early.synchronize()
            for _ in range(10):
                for i in range(30):
                    plain.all_reduce(before, "avg")
                    if i % 3 == 0:
                        for rank, t in enumerate(before):
                            t.add_(0.25 * rank)
                plain.all_reduce(before, "max")
            for comm, mine in ((early, tensors), (plain, before)):  # eager calls, work in between
                for _ in range(100):
                    for rank, t in enumerate(mine):
                        t.mul_(0.75).add_(0.25 * rank)
                    comm.all_reduce(mine, "avg")
            assert [bits(t) for t in tensors] == [bits(t) for t in before]
