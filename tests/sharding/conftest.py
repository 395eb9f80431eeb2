"""Meshes that every test runs on: four CPU devices, and two ranks of one GPU where there is one."""

from __future__ import annotations

import pytest

import vibetensor
from vibetensor import _C, fabric


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)],
)
def mesh(request: pytest.FixtureRequest) -> fabric.Mesh:
    """Four ranks on CPU devices, or two on one GPU."""
    if request.param == "cpu":
        if _C.device_count("cpu") < 4:
            vibetensor.set_cpu_devices(4)
        return fabric.mesh([f"cpu:{i}" for i in range(4)])
    return fabric.mesh("cuda:0", ranks=2)
