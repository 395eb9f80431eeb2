"""Symmetric memory: what it is made of, and what replaces it where devices do not reach others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import vibetensor.torch as torch
from vibetensor import _C, collectives, fabric

TWO_GPUS = pytest.mark.cuda(devices=2)
MESHES = [
    pytest.param(["cuda:0", "cuda:0"], id="one", marks=pytest.mark.cuda),
    pytest.param(["cuda:0", "cuda:1"], id="two", marks=TWO_GPUS),
]


def test_on_cpu_devices() -> None:
    tensors = fabric.symmetric_zeros(fabric.mesh("cpu:0", ranks=3), [2, 3], torch.float32)
    assert [t.shape for t in tensors] == [(2, 3)] * 3
    tensors[0].fill_(1)
    assert tensors[1].sum().item() == 0


def test_an_unknown_backing() -> None:
    with pytest.raises(ValueError, match="expected auto, mapped, peer or host"):
        fabric.symmetric_zeros(fabric.mesh("cpu:0"), [1], torch.float32, backing="paper")


@pytest.mark.parametrize("devices", MESHES)
@pytest.mark.parametrize("backing", ["mapped", "peer", "host"])
def test_every_backing_carries_collectives(devices: list[str], backing: str) -> None:
    mesh = fabric.mesh(devices)
    fabric.reset_stats()
    tensors = fabric.symmetric_zeros(mesh, [100_000], torch.float32, backing=backing)
    assert f"take/{backing}" in fabric.stats()["arena"]
    assert all(t.sum().item() == 0 for t in tensors)
    communicator = collectives.Communicator(mesh, algorithm="two_shot")
    for rank, t in enumerate(tensors):
        t += rank + 1.0
    communicator.all_reduce(tensors)
    assert all((t == 3).all().item() for t in tensors)


STAGED = """
import vibetensor.torch as torch
from vibetensor import _C, collectives, fabric
mesh = fabric.mesh(["cuda:0", "cuda:1"])
try:
    collectives.Communicator(mesh)
except _C.FabricError as error:
    print(error)
pairs = fabric.enable("best_effort")
assert not any(pair.direct for pair in pairs if pair.from_device.startswith("cuda")), pairs
communicator = collectives.Communicator(mesh)
for size in (10, 1000, 300_000):
    tensors = [torch.full((size,), 1.0 + rank, device=f"cuda:{rank}") for rank in range(2)]
    communicator.all_reduce(tensors)
    communicator.broadcast(tensors, root=1)
    assert all((t == 3).all().item() for t in tensors), size
a, b = tensors
assert fabric.explain(b, "cuda:0").way == "copy"
assert ((a + b) == 6).all().item()
print("went through", *fabric.stats()["arena"])
"""


@TWO_GPUS
def test_without_peers_everything_goes_through_the_host() -> None:
    environment = {**os.environ, "VIBETENSOR_P2P": "off"}
    done = subprocess.run(
        [sys.executable, "-c", STAGED], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "no direct access" in done.stdout and "best_effort" in done.stdout
    assert "take/host" in done.stdout


@TWO_GPUS
def test_strict_does_not_go_through_the_host() -> None:
    code = "from vibetensor import fabric; fabric.enable('strict')"
    environment = {**os.environ, "VIBETENSOR_P2P": "off"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert "FabricError: fabric.enable: cuda:0 has no direct access" in done.stderr
    assert issubclass(_C.FabricError, RuntimeError)


def test_more_elements_than_there_are_addresses_are_refused() -> None:
    mesh = fabric.mesh("cpu:0", ranks=2)
    with pytest.raises(RuntimeError, match=r"symmetric_zeros: .* too many elements"):
        fabric.symmetric_zeros(mesh, [1 << 62], torch.float32)
    with pytest.raises(RuntimeError, match=r"unified_empty: .* too many elements"):
        fabric.unified_zeros([1 << 62], dtype=torch.float32, device="cpu")
