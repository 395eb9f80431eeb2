"""How fast the pairs of devices move data: matrices of bandwidth and latency, measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vibetensor import _C
from vibetensor.fabric.topology import Topology

Matrix = list[list[float | None]]


@dataclass(frozen=True)
class Speeds:
    """Matrices over the devices; `[i][j]` is what device i does with the memory of device j.

    `copy_gbps` and `copy_both_gbps` are copies by the copy engines (by the cores between CPU
    devices), one way and the sum of both at once; `store_gbps` and `store_both_gbps` are kernels
    that store, on GPUs; `latency_ns` is one load that waits for the load before it. None where it
    was not measured, because there is no direct access or no such way.
    """

    devices: list[str]
    copy_gbps: Matrix
    copy_both_gbps: Matrix
    store_gbps: Matrix
    store_both_gbps: Matrix
    latency_ns: Matrix

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: name of the matrix to its rows."""
        return {
            "copy_gbps": self.copy_gbps,
            "copy_both_gbps": self.copy_both_gbps,
            "store_gbps": self.store_gbps,
            "store_both_gbps": self.store_both_gbps,
            "latency_ns": self.latency_ns,
        }


def measure(topology: Topology) -> Speeds:
    """Measures every pair of devices, a device and itself included, one pair at a time.

    Raises:
        OutOfMemoryError: a GPU has no half GiB to spare.
    """
    devices = [node.device for node in topology.nodes]
    pairs = [[_C.measure_pair(a, b) for b in devices] for a in devices]

    def matrix(key: str, scale: float) -> Matrix:
        return [[_scaled(pair, key, scale) for pair in row] for row in pairs]

    return Speeds(
        devices,
        copy_gbps=matrix("copy", 1e-9),
        copy_both_gbps=matrix("copy_both", 1e-9),
        store_gbps=matrix("store", 1e-9),
        store_both_gbps=matrix("store_both", 1e-9),
        latency_ns=matrix("latency", 1e9),
    )


def _scaled(pair: dict[str, float | None] | None, key: str, scale: float) -> float | None:
    value = pair[key] if pair is not None else None
    return None if value is None else round(value * scale, 2)
