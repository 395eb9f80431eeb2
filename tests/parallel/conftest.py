"""Four CPU devices for every test of this folder, and its helper modules on the path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import vibetensor
from vibetensor import _C

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def cpu_devices() -> None:
    if _C.device_count("cpu") < 4:
        vibetensor.set_cpu_devices(4)
