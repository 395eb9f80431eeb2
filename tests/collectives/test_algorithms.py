"""Every algorithm of the GPU engine gives the bits of the CPU engine, on every rank."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import _C, collectives, fabric

ALGORITHMS = [name for name in _C.algorithms if name != "nccl"]
# Bytes: less than a word, odd numbers of words and lines, around the limits of one launch.
SIZES = [4, 36, 1000, 4096, 65544, 300_004, 2_097_152, 5_000_012]
MESHES = [
    pytest.param(["cuda:0"] * 2, marks=pytest.mark.cuda),
    pytest.param(["cuda:0"] * 3, marks=pytest.mark.cuda),
    pytest.param(["cuda:0"] * 4, marks=pytest.mark.cuda),
    pytest.param(["cuda:0"] * 8, marks=pytest.mark.cuda),
    pytest.param(["cuda:0", "cuda:1"], marks=pytest.mark.cuda(devices=2)),
    pytest.param(["cuda:0", "cuda:1"] * 2, marks=pytest.mark.cuda(devices=2)),
]


def inputs_of(ranks: int, count: int, dtype: torch.dtype, salt: int = 0) -> list[torch.Tensor]:
    """Random values of one rank each, on the CPU."""
    chance = np.random.default_rng(count + salt)
    return [torch.from_numpy(chance.standard_normal(count) * 3).to(dtype) for _ in range(ranks)]


def bits(tensor: torch.Tensor) -> bytes:
    host = tensor.cpu()
    # NumPy has no bfloat16; as float32 every value keeps bits of its own.
    return (host.float() if host.dtype is torch.bfloat16 else host).numpy().tobytes()


def wanted_bits(inputs: list[torch.Tensor], op: str) -> bytes:
    vibetensor.set_cpu_devices(8)
    mesh = fabric.mesh([f"cpu:{rank}" for rank in range(len(inputs))])
    copies = [t.clone().to(d) for t, d in zip(inputs, mesh.devices, strict=True)]
    collectives.communicator(mesh).all_reduce(copies, op)
    return bits(copies[0])


def on(mesh: fabric.Mesh, inputs: list[torch.Tensor], symmetric: bool) -> list[torch.Tensor]:
    if not symmetric:
        return [t.to(d) for t, d in zip(inputs, mesh.devices, strict=True)]
    tensors = fabric.symmetric_zeros(mesh, inputs[0].shape, inputs[0].dtype)
    for tensor, source in zip(tensors, inputs, strict=True):
        tensor.copy_(source)
    return tensors


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("devices", MESHES)
def test_the_bits_are_those_of_the_cpu(devices: list[str], algorithm: str) -> None:
    mesh = fabric.mesh(devices)
    comm = collectives.Communicator(mesh, algorithm=algorithm)
    for size in SIZES:
        inputs = inputs_of(len(devices), size // 4, torch.float32)
        wanted = wanted_bits(inputs, "sum")
        for symmetric in (False, True):
            tensors = on(mesh, inputs, symmetric)
            outputs = on(mesh, inputs, symmetric)
            comm.all_reduce(tensors, out=outputs)
            assert all(bits(t) == wanted for t in outputs), (size, symmetric, "out of place")
            comm.all_reduce(tensors)
            assert all(bits(t) == wanted for t in tensors), (size, symmetric, "in place")
    comm.synchronize()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("devices", [MESHES[2], MESHES[4]])
@pytest.mark.parametrize("op", ["sum", "avg", "prod", "min", "max"])
def test_every_type_and_reduction(devices: list[str], op: str, algorithm: str) -> None:
    mesh = fabric.mesh(devices)
    comm = collectives.Communicator(mesh, algorithm=algorithm)
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.uint8,
        torch.int8,
        torch.int32,
        torch.int64,
    ):
        inputs = inputs_of(len(devices), 30_011, torch.float32)
        if dtype is torch.uint8:
            inputs = [t.abs() for t in inputs]
        inputs = [t.to(dtype) for t in inputs]
        tensors = on(mesh, inputs, True)
        comm.all_reduce(tensors, op)
        wanted = wanted_bits(inputs, op)
        assert all(bits(t) == wanted for t in tensors), dtype


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("devices", [MESHES[2], MESHES[4]])
def test_buffers_that_begin_anywhere(devices: list[str], algorithm: str) -> None:
    mesh = fabric.mesh(devices)
    comm = collectives.Communicator(mesh, algorithm=algorithm)
    for begin, count in ((1, 9), (3, 5003), (5, 100_001), (2, 1_000_000)):
        inputs = inputs_of(len(devices), begin + count, torch.bfloat16)
        tensors = on(mesh, inputs, True)
        comm.all_reduce([t[begin:] for t in tensors])
        wanted = wanted_bits([t[begin:].clone() for t in inputs], "sum")
        for tensor, source in zip(tensors, inputs, strict=True):
            assert bits(tensor[begin:].clone()) == wanted
            assert bits(tensor[:begin].clone()) == bits(source[:begin].clone())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("devices", [MESHES[2], MESHES[4]])
@pytest.mark.parametrize("shape", [(1, 32, 0), (3, 1024, 16 << 10), (24, 256, 4 << 10)])
def test_the_shape_of_the_grid_does_not_matter(
    devices: list[str], shape: tuple[int, int, int], algorithm: str
) -> None:
    mesh = fabric.mesh(devices)
    blocks, threads, chunk = shape
    comm = collectives.Communicator(
        mesh, algorithm=algorithm, max_blocks=blocks, threads=threads, chunk_bytes=chunk
    )
    for count in (7, 10_007, 700_001):
        inputs = inputs_of(len(devices), count, torch.bfloat16)
        tensors = on(mesh, inputs, True)
        comm.all_reduce(tensors)
        wanted = wanted_bits(inputs, "sum")
        assert all(bits(t) == wanted for t in tensors), count


def how_the_last_went() -> str:
    return next(e.how for e in reversed(fabric.events(16)) if e.kind == "collective")


@pytest.mark.parametrize("devices", [MESHES[0], MESHES[2], MESHES[3], MESHES[4]])
@pytest.mark.parametrize("op", ["sum", "avg", "prod", "max"])
def test_sums_of_communicators_that_leave_room(devices: list[str], op: str) -> None:
    """Note [Adding beside products]: blocks of one warp, of every type, at any address."""
    mesh = fabric.mesh(devices)
    comm = collectives.Communicator(mesh, max_blocks=16)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.uint8, torch.int64):
        inputs = [t.abs().to(dtype) for t in inputs_of(len(devices), 1_100_007, torch.float32)]
        for begin in (0, 1):
            tensors = on(mesh, inputs, True)
            comm.all_reduce([t[begin:] for t in tensors], op)
            assert how_the_last_went() == "copy_engine"
            wanted = wanted_bits([t[begin:].clone() for t in inputs], op)
            assert all(bits(t[begin:].clone()) == wanted for t in tensors), (dtype, begin)


@pytest.mark.parametrize("devices", [MESHES[4], MESHES[5]])
def test_large_calls_beside_other_work(devices: list[str]) -> None:
    mesh = fabric.mesh(devices)
    ranks = len(devices)
    comm = collectives.Communicator(mesh)
    inputs = inputs_of(ranks, 4_000_000 * ranks, torch.bfloat16)
    wanted = wanted_bits(inputs, "sum")
    for symmetric, how in ((True, "copy_engine"), (False, "two_shot")):
        tensors, others = on(mesh, inputs, symmetric), on(mesh, inputs, symmetric)
        scattered = [t[: t.numel() // ranks] for t in on(mesh, inputs, symmetric)]
        works = [comm.all_reduce(tensors, async_op=True)]
        assert how_the_last_went() == how
        works.append(comm.reduce_scatter(others, out=scattered, async_op=True))
        for work in works:
            work.wait()
        assert all(bits(t) == wanted for t in tensors)
        assert b"".join(bits(t.clone()) for t in scattered) == wanted


@pytest.mark.parametrize("devices", [MESHES[2], MESHES[4]])
def test_algorithms_take_turns(devices: list[str]) -> None:
    """They share signal pads and scratch memory: one must leave them as the next expects them."""
    mesh = fabric.mesh(devices)
    chance = random.Random(5)
    comm = collectives.Communicator(mesh)
    sizes = [3, 2000, 40_000, 400_000, 2_000_000, 8_000_000]
    for _ in range(60):
        count = chance.choices(sizes, [4, 4, 4, 4, 3, 1])[0]
        inputs = inputs_of(len(devices), count, torch.float32)
        tensors = on(mesh, inputs, chance.random() < 0.5)
        comm.all_reduce(tensors)
        wanted = wanted_bits(inputs, "sum")
        assert all(bits(t) == wanted for t in tensors)


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if a != "auto"])
@pytest.mark.parametrize("devices", [MESHES[0], MESHES[1], MESHES[4]])
def test_kinds_take_turns_behind_a_slow_rank(devices: list[str], algorithm: str) -> None:
    """Units of ordinary tensors follow each other through the same scratch memory while the last
    rank is behind; nobody waits, and results are looked at when all is over."""
    mesh = fabric.mesh(devices)
    ranks, last = len(devices), len(devices) - 1
    comm = collectives.Communicator(mesh, algorithm=algorithm)
    count = 600 * 1024 * ranks
    a, b = (torch.zeros(1 << 28, dtype=torch.uint8, device=mesh[last]) for _ in range(2))
    busy = torch.cuda.Stream(mesh[last])
    cases = []
    for turn in range(4):
        whole = inputs_of(ranks, count, torch.float32, salt=2 * turn)
        part = inputs_of(ranks, count // ranks, torch.float32, salt=2 * turn + 1)
        cases.append(([whole, on(mesh, whole, False)], [part, on(mesh, part, False)]))
    for device in devices:
        torch.cuda.synchronize(device)
    made = []
    for (_, whole), (_, part) in cases:
        summed = [torch.empty_like(t) for t in whole]
        scattered = [torch.empty_like(t) for t in part]
        gathered = [torch.empty_like(t) for t in whole]
        with torch.cuda.stream(busy):
            for _ in range(20):
                a.copy_(b)
            works = [
                comm.all_reduce(whole, out=summed, async_op=True),
                comm.all_gather(part, out=gathered, async_op=True),
                comm.reduce_scatter(whole, out=scattered, async_op=True),
            ]
        made.append((works, summed, gathered, scattered))
    for works, *_ in made:
        for work in works:
            work.wait()
    comm.synchronize()
    for ((whole, _), (part, _)), (_, summed, gathered, scattered) in zip(cases, made, strict=True):
        wanted = wanted_bits(whole, "sum")
        assert all(bits(t) == wanted for t in summed)
        assert b"".join(bits(t) for t in scattered) == wanted
        assert all(bits(t) == b"".join(bits(p) for p in part) for t in gathered)


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if a != "auto"])
@pytest.mark.parametrize("devices", [MESHES[0], MESHES[2], MESHES[4]])
def test_a_kernel_that_waits_in_vain_gives_up(devices: list[str], algorithm: str) -> None:
    """The last rank's stream is busy for longer than kernels of other GPUs wait, and than the host
    waits on behalf of ranks of its own."""
    mesh = fabric.mesh(devices)
    comm = collectives.Communicator(mesh, algorithm=algorithm, timeout=0.1)
    inputs = inputs_of(len(devices), 300_007, torch.float32)
    tensors = on(mesh, inputs, True)
    comm.all_reduce([t.clone() for t in tensors])  # what happens once is over
    comm.synchronize()
    last = len(devices) - 1
    busy = torch.cuda.Stream(mesh[last])
    a, b = (torch.zeros(1 << 29, dtype=torch.uint8, device=mesh[last]) for _ in range(2))
    torch.cuda.synchronize(mesh[last])

    def arrive_late() -> None:
        with torch.cuda.stream(busy):
            for _ in range(2000):  # half a second and more
                a.copy_(b)
            comm.arrive(last, tensors[last])

    thread = threading.Thread(target=arrive_late)
    for rank in range(last):
        comm.arrive(rank, tensors[rank])
    thread.start()
    thread.join()
    with pytest.raises(vibetensor.FabricTimeoutError, match=rf"waited \d+ ms for rank {last} "):
        comm.synchronize()
    comm.reset()
    torch.cuda.synchronize(mesh[last])
    tensors = on(mesh, inputs, True)
    comm.all_reduce(tensors)
    wanted = wanted_bits(inputs, "sum")
    assert all(bits(t) == wanted for t in tensors)
