"""Collectives from Python, on CPU devices and on ranks that share one GPU."""

from __future__ import annotations

import itertools
import random
import threading
import time

import numpy as np
import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import collectives, fabric

KINDS = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def mesh_of(kind: str, ranks: int) -> fabric.Mesh:
    """CPU ranks have a device each, GPU ranks share those that there are."""
    if kind == "cpu":
        vibetensor.set_cpu_devices(16)
        return fabric.mesh([f"cpu:{i}" for i in range(ranks)])
    count = torch.cuda.device_count()
    return fabric.mesh([f"cuda:{rank % count}" for rank in range(ranks)])


def values_of(rank: int, count: int, salt: int = 0) -> np.ndarray:
    return np.random.default_rng(rank * 7919 + count + salt).standard_normal(count)


def tensors_of(mesh: fabric.Mesh, count: int, dtype: torch.dtype = torch.float32) -> list:
    return [
        torch.from_numpy(values_of(rank, count)).to(dtype).to(device)
        for rank, device in enumerate(mesh.devices)
    ]


def numpy_of(tensor: torch.Tensor) -> np.ndarray:
    return tensor.cpu().double().numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 8, 13, 16])
def test_sum_over_any_number_of_ranks_and_sizes(kind: str, ranks: int) -> None:
    if kind == "cuda" and ranks > 8:
        pytest.skip("at most 8 ranks on GPUs")
    mesh = mesh_of(kind, ranks)
    comm = collectives.Communicator(mesh)
    for count in (0, 1, 3, 17, 1000, 65537, 300001):
        tensors = tensors_of(mesh, count)
        wanted = sum(numpy_of(t) for t in tensors)
        comm.all_reduce(tensors)
        first = tensors[0].cpu().numpy().tobytes()
        np.testing.assert_allclose(numpy_of(tensors[0]), wanted, rtol=1e-5, atol=1e-5)
        assert all(t.cpu().numpy().tobytes() == first for t in tensors), "ranks differ in bits"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_sums_are_taken_in_float32(kind: str, dtype: torch.dtype) -> None:
    mesh = mesh_of(kind, 5)
    # In bfloat16, 256 + 1 + 1 + 1 + 1 would stay 256; in float16, 2048 would.
    large = 256.0 if dtype is torch.bfloat16 else 2048.0
    tensors = [
        torch.full((100,), large if rank == 0 else 1.0, dtype=dtype, device=device)
        for rank, device in enumerate(mesh.devices)
    ]
    collectives.all_reduce(tensors)
    assert (numpy_of(tensors[3]) == large + 4).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_do_not_depend_on_the_buckets(kind: str) -> None:
    mesh = mesh_of(kind, 4)
    comm = collectives.Communicator(mesh)
    whole, parts = tensors_of(mesh, 70001, torch.bfloat16), tensors_of(mesh, 70001, torch.bfloat16)
    comm.all_reduce(whole)
    cuts = [0, 1, 513, 20000, 20001, 70001]
    for begin, end in itertools.pairwise(cuts):
        comm.all_reduce([t[begin:end] for t in parts])
    assert (numpy_of(whole[0]) == numpy_of(parts[0])).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", ["sum", "avg", "prod", "min", "max"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int32, torch.int64])
def test_every_op(kind: str, op: str, dtype: torch.dtype) -> None:
    mesh = mesh_of(kind, 3)
    inputs = [(t * 4).to(dtype) for t in tensors_of(mesh, 1001, torch.float64)]
    outputs = [torch.empty_like(t) for t in inputs]
    before = [numpy_of(t) for t in inputs]
    collectives.communicator(mesh).all_reduce(inputs, op, out=outputs)
    stack = np.stack(before)
    wanted = {"sum": stack.sum(0), "avg": stack.mean(0), "prod": stack.prod(0)}
    exact = wanted[op] if op in wanted else getattr(stack, op)(0)
    if dtype in (torch.int32, torch.int64):
        exact = np.trunc(exact)
    for output, original, untouched in zip(outputs, before, inputs, strict=True):
        np.testing.assert_allclose(numpy_of(output), exact, rtol=1e-5, atol=1e-5)
        assert (numpy_of(untouched) == original).all()


@pytest.mark.parametrize("kind", KINDS)
def test_broadcast_and_barrier(kind: str) -> None:
    mesh = mesh_of(kind, 4)
    for root in range(4):
        tensors = tensors_of(mesh, 4097)
        wanted = numpy_of(tensors[root])
        collectives.broadcast(tensors, root)
        collectives.barrier(mesh)
        assert all((numpy_of(t) == wanted).all() for t in tensors)


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_call_for_themselves_skewed_and_in_any_order(kind: str) -> None:
    ranks, calls = 4, 25
    mesh = mesh_of(kind, ranks)
    comm = collectives.Communicator(mesh)
    tensors = [tensors_of(mesh, 100 + 37 * call) for call in range(calls)]
    wanted = [sum(numpy_of(t) for t in row) for row in tensors]
    errors: list[BaseException] = []

    def rank_thread(rank: int) -> None:
        chance = random.Random(rank)
        try:
            for row in tensors:
                time.sleep(chance.random() * 0.002)
                comm.arrive(rank, row[rank])
                if chance.random() < 0.3:
                    comm.wait(rank)
            comm.wait(rank)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=rank_thread, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    comm.synchronize()
    assert not errors
    for row, want in zip(tensors, wanted, strict=True):
        for tensor in row:
            np.testing.assert_allclose(numpy_of(tensor), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_that_does_not_come_is_named(kind: str) -> None:
    mesh = mesh_of(kind, 3)
    comm = collectives.Communicator(mesh, timeout=0.2)
    tensors = tensors_of(mesh, 10)
    comm.arrive(0, tensors[0])
    comm.arrive(2, tensors[2])
    start = time.monotonic()
    with pytest.raises(
        vibetensor.FabricTimeoutError, match=rf"rank 1 \({mesh[1]}\) did not arrive"
    ):
        comm.wait(0)
    assert time.monotonic() - start < 5
    with pytest.raises(vibetensor.FabricTimeoutError):
        comm.all_reduce(tensors)
    comm.reset()
    wanted = sum(numpy_of(t) for t in tensors)
    comm.all_reduce(tensors)
    np.testing.assert_allclose(numpy_of(tensors[1]), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_that_disagree_are_named(kind: str) -> None:
    mesh = mesh_of(kind, 2)
    comm = collectives.Communicator(mesh)
    a, b = tensors_of(mesh, 10)
    short = b[:9]
    with pytest.raises(
        vibetensor.FabricError, match=r"rank 0 calls .*\[10\].* rank 1 calls .*\[9\]"
    ):
        comm.all_reduce([a, short])
    with pytest.raises(vibetensor.FabricError, match=r"f32.*f64|float32.*float64"):
        comm.all_reduce([a, b.double()])
    comm.arrive(0, a, "sum")
    with pytest.raises(vibetensor.FabricError, match=r"all_reduce sum .* all_reduce max"):
        comm.arrive(1, b, "max")
        comm.wait(1)
    with pytest.raises(vibetensor.FabricError):
        comm.wait(0)
    comm.all_reduce([a, b])


@pytest.mark.parametrize("kind", KINDS)
def test_bad_arguments(kind: str) -> None:
    mesh = mesh_of(kind, 2)
    comm = collectives.Communicator(mesh)
    a, b = tensors_of(mesh, 12)
    with pytest.raises(ValueError, match="unknown op 'mean'"):
        comm.all_reduce([a, b], "mean")
    with pytest.raises(ValueError, match="one tensor a rank"):
        comm.all_reduce([a])
    with pytest.raises(ValueError, match="contiguous"):
        comm.all_reduce([a.reshape(3, 4).t(), b.reshape(3, 4).t()])
    with pytest.raises(TypeError, match="a list with one tensor a rank, got one tensor"):
        collectives.all_reduce(a)
    with pytest.raises(TypeError, match="bool"):
        comm.all_reduce([a > 0, b > 0])
    with pytest.raises(ValueError, match="root 2 is out of range"):
        comm.broadcast([a, b], 2)
    with pytest.raises(ValueError, match="rank 5 is out of range"):
        comm.arrive(5, a)
    with pytest.raises(ValueError, match="timeout must be positive"):
        collectives.Communicator(mesh, timeout=0.0)
    with pytest.raises(ValueError, match="unknown algorithm"):
        collectives.Communicator(mesh, algorithm="magic")
    other = torch.zeros(12, dtype=torch.bfloat16, device=mesh[0])
    with pytest.raises((RuntimeError, ValueError)):
        comm.all_reduce([other, other])


def test_an_in_place_result_counts_as_a_change() -> None:
    mesh = mesh_of("cpu", 2)
    weight = torch.ones(3, requires_grad=True)
    x = torch.ones(3, device="cpu:0")
    y = (weight * x).sum()
    collectives.all_reduce([x, torch.ones(3, device=mesh[1])])
    with pytest.raises(RuntimeError, match=r"in-?place|version|modified"):
        y.backward()


@pytest.mark.cuda
def test_symmetric_tensors_and_staging_agree() -> None:
    mesh = mesh_of("cuda", 4)
    results = []
    for staged in (False, True):
        tensors = fabric.symmetric_zeros(mesh, (3, 100003), torch.float32)
        for tensor, source in zip(tensors, tensors_of(mesh, 300009), strict=True):
            tensor.copy_(source.reshape(3, 100003))
        comm = collectives.Communicator(mesh, algorithm="two_shot", always_stage=staged)
        comm.all_reduce(tensors)
        results.append(numpy_of(tensors[1]))
    assert (results[0] == results[1]).all()


@pytest.mark.cuda
def test_order_with_work_on_the_current_stream() -> None:
    mesh = mesh_of("cuda", 2)
    comm = collectives.Communicator(mesh)
    tensors = [torch.ones(1 << 20, device=device) for device in mesh.devices]
    for _ in range(50):
        for tensor in tensors:
            tensor.mul_(0.5)
        comm.all_reduce(tensors)
    assert all((numpy_of(t) == 1.0).all() for t in tensors)


@pytest.mark.cuda
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_calls_of_all_forms_follow_each_other_on_any_streams(ranks: int) -> None:
    """Group calls run on the current streams, others on streams of the communicator."""
    mesh = mesh_of("cuda", ranks)
    comm = collectives.Communicator(mesh)
    rows = [torch.ones(100_003, dtype=torch.int64, device=device) for device in mesh.devices]
    for device in mesh.devices:
        torch.cuda.synchronize(device)
    used = sorted({str(device) for device in mesh.devices})
    streams = [[torch.cuda.Stream(device) for device in used] for _ in range(3)]
    chance = random.Random(ranks)
    works: list = []
    for _ in range(300):
        for stream in chance.choice(streams):
            torch.cuda.set_stream(stream)
        form = chance.randrange(3)
        if form == 0:
            comm.all_reduce(rows)
        elif form == 1:
            works.append(comm.all_reduce(rows, async_op=True))
            if chance.random() < 0.5:
                works.pop(0).wait()
        else:
            for rank in chance.sample(range(ranks), ranks):
                comm.arrive(rank, rows[rank])
            for rank in range(ranks):
                comm.wait(rank)
    comm.synchronize()
    for device in used:
        torch.cuda.set_stream(torch.cuda.default_stream(device))
    sums = np.array([pow(ranks, 300, 1 << 64)], dtype=np.uint64).view(np.int64)[0]
    for row in rows:
        assert (row.cpu().numpy() == sums).all()
