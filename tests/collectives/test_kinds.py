"""Every kind of collective against an oracle in float64: all types, reductions, roots, sizes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import collectives, fabric

KINDS = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
OPS = ["sum", "avg", "prod", "min", "max"]
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
INTEGERS = [torch.int64, torch.int32, torch.int8, torch.uint8]
TOLERANCE = {torch.float64: 1e-14, torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def mesh_of(kind: str, ranks: int) -> fabric.Mesh:
    """CPU ranks have a device each, GPU ranks share those that there are."""
    if kind == "cpu":
        vibetensor.set_cpu_devices(16)
        return fabric.mesh([f"cpu:{i}" for i in range(ranks)])
    count = torch.cuda.device_count()
    return fabric.mesh([f"cuda:{rank % count}" for rank in range(ranks)])


def values_of(rank: int, count: int, dtype: torch.dtype) -> np.ndarray:
    """Small multiples of a power of two, so that sums of up to 8 are exact in every type."""
    values = np.random.default_rng(rank * 7919 + count).integers(-8, 9, count).astype(np.float64)
    if dtype in FLOATS:
        return values / 4
    if dtype is torch.bool:
        return (values > 0).astype(np.float64)
    return np.abs(values) if dtype is torch.uint8 else values


def tensor_of(values: np.ndarray, dtype: torch.dtype, device: object, offset: int = 0):
    """The values on a device, `offset` elements behind an aligned address."""
    whole = torch.zeros(len(values) + offset, dtype=dtype, device=device)
    part = whole[offset:]
    part.copy_(torch.from_numpy(values).to(dtype))
    return part


def numpy_of(tensor: torch.Tensor) -> np.ndarray:
    return tensor.cpu().double().numpy()


def reduced(values: list[np.ndarray], op: str, dtype: torch.dtype) -> np.ndarray:
    stack = np.stack(values)
    if op in ("min", "max"):
        return getattr(stack, op)(0)
    total = stack.prod(0) if op == "prod" else stack.sum(0)
    if dtype in INTEGERS:  # results wrap around, means are cut off
        bits = {torch.int8: np.int8, torch.uint8: np.uint8, torch.int32: np.int32}
        if op == "avg":
            total = np.trunc(total / len(values))
        total = total.astype(np.int64).astype(bits.get(dtype, np.int64)).astype(np.float64)
    elif op == "avg":
        total = total / len(values)
    return total


def check(tensor: torch.Tensor, wanted: np.ndarray) -> None:
    got = numpy_of(tensor)
    if tensor.dtype in FLOATS:
        limit = TOLERANCE[tensor.dtype]
        np.testing.assert_allclose(got, wanted, rtol=limit, atol=limit)
    else:
        np.testing.assert_array_equal(got, wanted)


def parts(values: np.ndarray, ranks: int) -> list[np.ndarray]:
    return list(values.reshape(ranks, -1)) if len(values) else [values] * ranks


def run_and_check(
    comm: collectives.Communicator,
    kind: str,
    count: int,
    dtype: torch.dtype,
    op: str = "sum",
    root: int = 0,
    offset: int = 0,
    in_place: bool = False,
) -> None:
    """One collective of parts of `count` elements; inputs must be unharmed, outputs right."""
    ranks, devices = len(comm.mesh), list(comm.mesh.devices)
    per_rank_in = kind in ("reduce_scatter", "all_to_all", "scatter")
    per_rank_out = kind in ("all_gather", "all_to_all", "gather")
    values = [values_of(r, count * (ranks if per_rank_in else 1), dtype) for r in range(ranks)]
    outputs: list = [None] * ranks
    if in_place and per_rank_out:
        outputs = [tensor_of(np.zeros(count * ranks), dtype, d, offset) for d in devices]
        inputs = [out[r * count : (r + 1) * count] for r, out in enumerate(outputs)]
        for tensor, value in zip(inputs, values, strict=True):
            tensor.copy_(torch.from_numpy(value).to(dtype))
    else:
        inputs = [tensor_of(v, dtype, d, offset) for v, d in zip(values, devices, strict=True)]
        if in_place and per_rank_in:
            outputs = [t[r * count : (r + 1) * count] for r, t in enumerate(inputs)]
        elif in_place:
            outputs = inputs
        else:
            size = count * (ranks if per_rank_out else 1)
            outputs = [tensor_of(np.zeros(size), dtype, d, offset) for d in devices]
    if kind == "all_reduce":
        comm.all_reduce(inputs, op, out=outputs)
        wanted = [reduced(values, op, dtype)] * ranks
    elif kind == "reduce_scatter":
        comm.reduce_scatter(inputs, op, out=outputs)
        wanted = parts(reduced(values, op, dtype), ranks)
    elif kind == "reduce":
        comm.reduce(inputs, root, op, out=outputs[root])
        wanted = [reduced(values, op, dtype) if r == root else None for r in range(ranks)]
    elif kind == "all_gather":
        comm.all_gather(inputs, out=outputs)
        wanted = [np.concatenate(values)] * ranks
    elif kind == "gather":
        comm.gather(inputs, root, out=outputs[root])
        wanted = [np.concatenate(values) if r == root else None for r in range(ranks)]
    elif kind == "scatter":
        comm.scatter(inputs[root], root, out=outputs)
        wanted = parts(values[root], ranks)
    elif kind == "all_to_all":
        comm.all_to_all(inputs, out=outputs)
        cut = [parts(value, ranks) for value in values]
        wanted = [np.concatenate([cut[p][r] for p in range(ranks)]) for r in range(ranks)]
    elif kind == "sendrecv":
        comm.sendrecv(inputs, [(r + 1) % ranks for r in range(ranks)], out=outputs)
        wanted = [values[(r - 1) % ranks] for r in range(ranks)]
    else:
        comm.broadcast(inputs, root)
        outputs, wanted = inputs, [values[root]] * ranks
    for output, want in zip(outputs, wanted, strict=True):
        if want is not None:
            check(output, want)
    if not in_place and kind != "broadcast":
        for tensor, value in zip(inputs, values, strict=True):
            check(tensor, value)


REDUCING = ["all_reduce", "reduce_scatter", "reduce"]
MOVING = ["all_gather", "broadcast", "all_to_all", "gather", "scatter", "sendrecv"]


def can_be_in_place(kind: str) -> bool:
    return kind not in ("all_to_all", "sendrecv")


@pytest.mark.parametrize("device", KINDS)
@pytest.mark.parametrize("kind", REDUCING + MOVING)
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 7, 8])
def test_any_size_number_of_ranks_and_root(device: str, kind: str, ranks: int) -> None:
    comm = collectives.Communicator(mesh_of(device, ranks))
    rooted = kind in ("reduce", "broadcast", "gather", "scatter")
    for count in (0, 1, 3, 17, 1000, 65537):
        for root in {0, ranks - 1} if rooted else {0}:
            run_and_check(comm, kind, count, torch.float32, root=root)
            if can_be_in_place(kind):
                run_and_check(comm, kind, count, torch.float32, root=root, in_place=True)


@pytest.mark.parametrize("device", KINDS)
@pytest.mark.parametrize("kind", REDUCING)
@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_every_type_and_reduction(device: str, kind: str, dtype: torch.dtype) -> None:
    comm = collectives.Communicator(mesh_of(device, 3))
    for op, count in itertools.product(OPS, (5, 1031)):
        run_and_check(comm, kind, count, dtype, op)


@pytest.mark.parametrize("device", KINDS)
@pytest.mark.parametrize("kind", MOVING)
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, torch.bool])
def test_every_type_moves(device: str, kind: str, dtype: torch.dtype) -> None:
    comm = collectives.Communicator(mesh_of(device, 3))
    for count in (1, 1031):
        run_and_check(comm, kind, count, dtype)


@pytest.mark.parametrize("device", KINDS)
@pytest.mark.parametrize("kind", REDUCING + MOVING)
@pytest.mark.parametrize("offset", [1, 3, 8])
def test_unaligned_tensors(device: str, kind: str, offset: int) -> None:
    comm = collectives.Communicator(mesh_of(device, 4))
    for count in (7, 10001, 40000):
        for in_place in {False, can_be_in_place(kind)}:
            run_and_check(comm, kind, count, torch.float16, offset=offset, in_place=in_place)


@pytest.mark.cuda
@pytest.mark.parametrize(
    "algorithm",
    ["packets", "lines", "one_shot", "two_shot", "push", "copy_engine", "staged"],
)
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_every_algorithm_on_large_and_odd_sizes(algorithm: str, ranks: int) -> None:
    options: dict = {"algorithm": algorithm, "timeout": 10.0}
    if algorithm == "staged":
        options = {"always_stage": True, "timeout": 10.0}
    comm = collectives.Communicator(mesh_of("cuda", ranks), **options)
    for kind in REDUCING + MOVING:
        for count, dtype in ((1, torch.int8), (100003, torch.bfloat16), (300001, torch.float32)):
            run_and_check(comm, kind, count, dtype)
            if can_be_in_place(kind):
                run_and_check(comm, kind, count, dtype, in_place=True, root=ranks - 1)


@pytest.mark.cuda
@pytest.mark.parametrize("ranks", [2, 3, 8])
@pytest.mark.parametrize("chunk", [4096, 100_000])
def test_copy_engines_and_many_pieces(ranks: int, chunk: int) -> None:
    """More pieces than there are places for, and sums that their owners do not keep."""
    mesh = fabric.mesh(["cuda:0"] * ranks)
    comm = collectives.Communicator(mesh, algorithm="copy_engine", chunk_bytes=chunk, timeout=10.0)
    for kind in REDUCING + MOVING:
        for root in {0, ranks - 1} if kind in ("reduce", "broadcast", "gather", "scatter") else {0}:
            run_and_check(comm, kind, 100_003, torch.bfloat16, root=root)
            run_and_check(comm, kind, 10_007, torch.float32, "avg", root=root, offset=1)
            if can_be_in_place(kind):
                run_and_check(comm, kind, 100_003, torch.bfloat16, root=root, in_place=True)


@pytest.mark.cuda(devices=2)
def test_every_kind_through_nccl() -> None:
    comm = collectives.Communicator(mesh_of("cuda", 2), algorithm="nccl")
    for kind in REDUCING + MOVING:
        for count, dtype in ((0, torch.float32), (7, torch.int32), (100003, torch.bfloat16)):
            for root in (0, 1):
                run_and_check(comm, kind, count, dtype, root=root)
                if can_be_in_place(kind):
                    run_and_check(comm, kind, count, dtype, root=root, in_place=True)
    comm.barrier()
    comm.synchronize()


@pytest.mark.parametrize("device", KINDS)
def test_what_is_made_where_no_output_is_given(device: str) -> None:
    mesh = mesh_of(device, 4)
    comm = collectives.communicator(mesh)
    rows = [torch.full((8, 3), float(r), device=d) for r, d in enumerate(mesh.devices)]
    assert [t.shape for t in collectives.reduce_scatter(rows)] == [(2, 3)] * 4
    assert [t.shape for t in collectives.all_gather(rows)] == [(32, 3)] * 4
    assert [t.shape for t in collectives.all_to_all(rows)] == [(8, 3)] * 4
    gathered = collectives.gather(rows, 2)
    assert gathered.shape == (32, 3) and gathered.device == mesh[2]
    pieces = collectives.scatter(gathered, 2, group=comm)
    assert [t.device for t in pieces] == list(mesh.devices)
    for piece, row in zip(pieces, rows, strict=True):
        assert (numpy_of(piece) == numpy_of(row)).all()
    shifted = collectives.sendrecv(rows, [1, None, 3, None])
    assert shifted[0] is None and shifted[2] is None
    assert (numpy_of(shifted[1]) == 0).all() and (numpy_of(shifted[3]) == 2).all()
    collectives.reduce(rows, 3)
    assert (numpy_of(rows[3]) == 6).all() and (numpy_of(rows[1]) == 1).all()
    scalars = [torch.full((), float(r), device=d) for r, d in enumerate(mesh.devices)]
    assert (numpy_of(collectives.all_gather(scalars)[1]) == np.arange(4)).all()


@pytest.mark.parametrize("device", KINDS)
def test_handles(device: str) -> None:
    mesh = mesh_of(device, 3)
    works, wanted = [], []
    for call in range(20):
        rows = [
            tensor_of(values_of(r, 999, torch.float32), torch.float32, d)
            for r, d in enumerate(mesh.devices)
        ]
        wanted.append(sum(numpy_of(row) for row in rows))
        works.append(collectives.reduce_scatter(rows, async_op=True))
        if call % 7 == 3:
            collectives.barrier(mesh)
        del rows  # the handle keeps them
    for work, want in zip(works, wanted, strict=True):
        work.wait()
        work.synchronize()
        assert work.is_completed()
        for output, part in zip(work.result(), parts(want, 3), strict=True):
            check(output, part)


@pytest.mark.parametrize("device", KINDS)
def test_subgroups_are_independent_and_kept(device: str) -> None:
    mesh = mesh_of(device, 4)
    odd, even = collectives.new_group(mesh, [3, 1]), collectives.new_group(mesh, [0, 2])
    assert collectives.new_group(mesh, [3, 1]) is odd
    rows = [torch.full((100,), float(r), device=d) for r, d in enumerate(mesh.devices)]
    collectives.all_reduce([rows[3], rows[1]], group=odd)
    gathered = collectives.all_gather([rows[0], rows[2]], group=even)
    assert (numpy_of(rows[1]) == 4).all() and (numpy_of(rows[0]) == 0).all()
    assert (numpy_of(gathered[0]) == np.repeat([0.0, 2.0], 100)).all()
    with pytest.raises(ValueError, match="rank 7 is out of range"):
        collectives.new_group(mesh, [0, 7])
    with pytest.raises(ValueError, match="rank 1 is named twice"):
        collectives.new_group(mesh, [1, 1])
