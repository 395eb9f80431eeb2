"""The fabric: all devices of this machine as one mesh of ranks, driven from one process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vibetensor import _C
from vibetensor._C import Mesh, set_cpu_devices
from vibetensor.fabric.groups import cliques, ring_order
from vibetensor.fabric.modules import distribute_module
from vibetensor.fabric.record import (
    Event,
    chrome_trace,
    events,
    export_chrome_trace,
    reset_stats,
    stats,
)
from vibetensor.fabric.speed import Speeds, measure
from vibetensor.fabric.switch import Access, Route, disable, enable, explain, is_enabled, mode
from vibetensor.fabric.tensors import (
    FabricTensor,
    Partial,
    Placement,
    Replicate,
    Shard,
    distribute,
    from_local_shards,
    gather,
    reshard,
)
from vibetensor.fabric.topology import Node, Pair, Topology, topology
from vibetensor.fabric.unified import (
    Residency,
    UnifiedUse,
    advise,
    is_unified,
    prefetch,
    residency,
    unified_empty,
    unified_limit,
    unified_use,
    unified_zeros,
)

__all__ = [
    "Access",
    "Event",
    "FabricTensor",
    "Mesh",
    "Node",
    "Pair",
    "Partial",
    "Placement",
    "Replicate",
    "Residency",
    "Route",
    "Shard",
    "Speeds",
    "Topology",
    "UnifiedUse",
    "advise",
    "chrome_trace",
    "cliques",
    "disable",
    "distribute",
    "distribute_module",
    "enable",
    "events",
    "explain",
    "export_chrome_trace",
    "from_local_shards",
    "gather",
    "inspect_topology",
    "is_enabled",
    "is_unified",
    "measure",
    "mesh",
    "mode",
    "parse_devices",
    "prefetch",
    "reset_stats",
    "reshard",
    "residency",
    "ring_order",
    "set_cpu_devices",
    "stats",
    "symmetric_zeros",
    "topology",
    "unified_empty",
    "unified_limit",
    "unified_use",
    "unified_zeros",
]

Device = str | _C.device


def mesh(devices: Device | Iterable[Device] | None = None, *, ranks: int | None = None) -> Mesh:
    """The ranks that work together, in order.

    Args:
        devices: one device or several, as `"cuda:0"` or `["cpu:0", "cpu:1"]`. None takes every
            GPU of the machine or, where there is none, every CPU device of the process
            (`VIBETENSOR_CPU_DEVICES`, `set_cpu_devices`).
        ranks: how many ranks; None is one a device. More ranks than devices share them, so
            that `mesh("cuda:0", ranks=4)` runs four ranks on one GPU.

    Raises:
        RuntimeError: a device does not exist.
        ValueError: no device, devices of two types, fewer ranks than devices, or more than 16
            ranks (8 on GPUs).
    """
    if devices is None:
        kind = "cuda" if _C.device_count("cuda") else "cpu"
        names: list[Device] = [f"{kind}:{i}" for i in range(_C.device_count(kind))]
    elif isinstance(devices, (str, _C.device)):
        names = [devices]
    else:
        names = list(devices)
    if ranks is not None:
        if ranks < max(len(names), 1):
            raise ValueError(f"mesh: {len(names)} devices need at least as many ranks, got {ranks}")
        names = [names[rank * len(names) // ranks] for rank in range(ranks)] if names else []
    return Mesh(names)


def parse_devices(text: str, *, ranks: int | None = None) -> Mesh:
    """The mesh that a command line asks for.

    Args:
        text: `auto` or `all` (every GPU, or else the CPU devices of the process), `cpu:4` (four CPU
            devices), `cuda` (every GPU) or `cuda:0,1` (these GPUs).
        ranks: as in `mesh`.

    Raises:
        ValueError: the text is none of these.
        RuntimeError: a device does not exist.
    """
    kind, _, rest = text.partition(":")
    if text in ("auto", "all"):
        return mesh(ranks=ranks)
    if kind == "cuda" and not rest and _C.device_count("cuda"):
        return mesh([f"cuda:{i}" for i in range(_C.device_count("cuda"))], ranks=ranks)
    if kind == "cpu" and (rest.isdecimal() or not rest):
        count = int(rest or 1)
        if count > _C.device_count("cpu"):
            set_cpu_devices(count)
        return mesh([f"cpu:{i}" for i in range(count)], ranks=ranks)
    indices = (rest or "0").split(",")
    if kind == "cuda" and all(index.isdecimal() for index in indices):
        return mesh([f"cuda:{int(index)}" for index in indices], ranks=ranks)
    raise ValueError(
        f"devices: expected auto, all, cpu:N, cuda or cuda:I,J as in cuda:0,1; got '{text}'"
    )


def inspect_topology() -> Topology:
    """The same as `topology`: looks at the devices, and tries out every pair of GPUs once."""
    return topology()


def symmetric_zeros(
    mesh: Mesh, size: Sequence[int], dtype: _C.dtype, backing: str = "auto"
) -> list[_C.Tensor]:
    """One zeroed tensor a rank, in memory that all devices of the mesh reach directly.

    Collectives work on such tensors without a copy.

    Args:
        mesh: the ranks.
        size: the shape, the same for all ranks.
        dtype: the element type.
        backing: what the memory of GPUs is. "mapped": pages of each GPU, mapped for all of the
            mesh. "peer": cudaMalloc and peer access, for drivers without mapped memory. "host":
            pinned memory of the host, slow, for GPUs that do not reach each other. "auto": mapped,
            else peer, or host where a pair is not usable and the fabric is enabled as best_effort.

    Raises:
        OutOfMemoryError: a device has no room.
        ValueError: no such backing.
        FabricError: the driver does not have it.
    """
    return _C.symmetric_zeros(mesh, list(size), dtype, backing)
