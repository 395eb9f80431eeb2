"""The fabric: all devices of this machine as one mesh of ranks, driven from one process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vibetensor import _C
from vibetensor._C import Mesh, set_cpu_devices
from vibetensor.fabric.speed import Speeds, measure
from vibetensor.fabric.topology import Node, Pair, Topology, topology

__all__ = [
    "Mesh",
    "Node",
    "Pair",
    "Speeds",
    "Topology",
    "measure",
    "mesh",
    "parse_devices",
    "set_cpu_devices",
    "symmetric_zeros",
    "topology",
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


def symmetric_zeros(mesh: Mesh, size: Sequence[int], dtype: _C.dtype) -> list[_C.Tensor]:
    """One zeroed tensor a rank, in memory that all devices of the mesh reach directly.

    Collectives work on such tensors without a copy.

    Args:
        mesh: the ranks.
        size: the shape, the same for all ranks.
        dtype: the element type.

    Raises:
        OutOfMemoryError: a device has no room.
    """
    return _C.symmetric_zeros(mesh, list(size), dtype)
