"""Fixtures of the operator tests."""

from __future__ import annotations

import pytest

import vibetensor
from vibetensor import _C


@pytest.fixture
def two_cpu_devices() -> None:
    """At least cpu:0 and cpu:1. The number of devices only grows."""
    if _C.device_count("cpu") < 2:
        vibetensor.set_cpu_devices(2)
