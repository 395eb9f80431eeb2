"""Meshes that every test runs on: four CPU devices; where there are GPUs, one and two of them."""

from __future__ import annotations

import pytest

import vibetensor
from vibetensor import _C, fabric


@pytest.fixture(
    params=[
        "cpu",
        pytest.param("cuda", marks=pytest.mark.cuda),
        pytest.param("two GPUs", marks=pytest.mark.cuda(devices=2)),
    ],
)
def mesh(request: pytest.FixtureRequest) -> fabric.Mesh:
    """Four ranks on CPU devices, two on one GPU, or one on each of two GPUs."""
    if request.param == "cpu":
        if _C.device_count("cpu") < 4:
            vibetensor.set_cpu_devices(4)
        return fabric.mesh([f"cpu:{i}" for i in range(4)])
    return fabric.mesh(["cuda:0", "cuda:0" if request.param == "cuda" else "cuda:1"])
