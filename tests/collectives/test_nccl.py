"""NCCL behind the communicator: the same results as ours, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import collectives, fabric

TWO_GPUS = pytest.mark.cuda(devices=2)


def test_without_gpus_it_is_refused() -> None:
    vibetensor.set_cpu_devices(4)
    with pytest.raises(ValueError, match="NCCL runs on GPUs only"):
        collectives.Communicator(fabric.mesh(["cpu:0", "cpu:1"]), algorithm="nccl")


@pytest.mark.cuda
def test_two_ranks_on_one_gpu_are_refused() -> None:
    with pytest.raises(ValueError, match="one rank a GPU"):
        collectives.Communicator(fabric.mesh("cuda:0", ranks=2), algorithm="nccl")


@TWO_GPUS
@pytest.mark.parametrize("op", ["sum", "avg", "prod", "min", "max"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32])
def test_it_agrees_with_ours(op: str, dtype: torch.dtype) -> None:
    mesh = fabric.mesh(["cuda:0", "cuda:1"])
    ours, theirs = collectives.Communicator(mesh), collectives.Communicator(mesh, algorithm="nccl")
    random = np.random.default_rng(5)
    # Even integers: sums, means and products are exact in every type.
    values = [2.0 * random.integers(-4, 5, 10007) for _ in range(2)]
    tensors = [
        torch.from_numpy(v).to(dtype).to(d) for v, d in zip(values, mesh.devices, strict=True)
    ]
    outputs = [torch.empty_like(t) for t in tensors]
    ours.all_reduce(tensors, op, out=outputs)
    theirs.all_reduce(tensors, op)
    for mine, other in zip(outputs, tensors, strict=True):
        np.testing.assert_array_equal(mine.cpu().double().numpy(), other.cpu().double().numpy())


@TWO_GPUS
def test_broadcast_and_barrier() -> None:
    mesh = fabric.mesh(["cuda:0", "cuda:1"])
    comm = collectives.Communicator(mesh, algorithm="nccl")
    tensors = [torch.full((1001,), float(rank), device=d) for rank, d in enumerate(mesh.devices)]
    comm.broadcast(tensors, 1)
    comm.barrier()
    comm.synchronize()
    assert all((t.cpu().numpy() == 1.0).all() for t in tensors)
