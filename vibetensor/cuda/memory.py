"""What the allocator of a GPU holds, held and did, and how much it may take."""

from __future__ import annotations

import pickle
import sys
from os import PathLike
from typing import Any

from vibetensor import _C
from vibetensor.cuda.devices import DeviceLike, device_count, place

OutOfMemoryError = _C.OutOfMemoryError


def memory_stats(device: DeviceLike = None) -> dict[str, int]:
    """All counters of the allocator, under the names that `torch.cuda.memory_stats` has.

    "<what>.<which>.<when>": what is allocation, segment, active, inactive_split (numbers),
    allocated_bytes, reserved_bytes, active_bytes, inactive_split_bytes, requested_bytes; which is
    all, small_pool, large_pool; when is current, peak, allocated, freed. Beside those
    num_alloc_retries, num_ooms, num_sync_all_streams, num_device_alloc and num_device_free.
    Nothing where there is no GPU, as in torch.
    """
    return _C.memory_counters(place(device)) if device_count() else {}


def memory_stats_as_nested_dict(device: DeviceLike = None) -> dict[str, Any]:
    """`memory_stats` with a dictionary for each part of a name: ["allocation"]["all"]["peak"]."""
    result: dict[str, Any] = {}
    for name, value in memory_stats(device).items():
        *path, last = name.split(".")
        place_of = result
        for part in path:
            place_of = place_of.setdefault(part, {})
        place_of[last] = value
    return result


def memory_allocated(device: DeviceLike = None) -> int:
    """Bytes held by live tensors; 0 where there is no GPU."""
    return _held("allocated", device)


def max_memory_allocated(device: DeviceLike = None) -> int:
    """The most bytes held by live tensors since the last reset; 0 where there is no GPU."""
    return _held("peak_allocated", device)


def memory_reserved(device: DeviceLike = None) -> int:
    """Bytes taken from the driver; 0 where there is no GPU."""
    return _held("reserved", device)


def max_memory_reserved(device: DeviceLike = None) -> int:
    """The most bytes taken from the driver since the last reset; 0 where there is no GPU."""
    return _held("peak_reserved", device)


def _held(what: str, device: DeviceLike) -> int:
    return _C.memory_stats(place(device))[what] if device_count() else 0


def reset_peak_memory_stats(device: DeviceLike = None) -> None:
    """Peaks start again from what is held now."""
    _C.reset_peak_memory(place(device))


def reset_accumulated_memory_stats(device: DeviceLike = None) -> None:
    """Sums of what was allocated and freed, and counts of events, start again from 0."""
    _C.reset_memory_sums(place(device))


def empty_cache() -> None:
    """Gives memory that no tensor uses back to the driver, on every GPU.

    Raises:
        RuntimeError: a graph is being captured.
    """
    for index in range(device_count()):
        _C.empty_cache(place(index))


def mem_get_info(device: DeviceLike = None) -> tuple[int, int]:
    """(free, total) bytes of a GPU, whoever holds the rest."""
    return _C.free_memory(place(device))


def set_per_process_memory_fraction(fraction: float, device: DeviceLike = None) -> None:
    """Reserves at most that part of a GPU's memory from now on; 1.0 lifts the limit.

    Raises:
        ValueError: the fraction is not above 0 and at most 1.
    """
    _C.set_memory_fraction(place(device), fraction)


def get_per_process_memory_fraction(device: DeviceLike = None) -> float:
    """What part of a GPU's memory may be reserved: 1.0 unless a limit was set."""
    return _C.memory_fraction(place(device))


def get_allocator_backend() -> str:
    """ "native", or "cudaMallocAsync" where VIBETENSOR_CUDA_ALLOCATOR=driver was asked for."""
    return "cudaMallocAsync" if _allocator() == "driver" else "native"


def _allocator() -> str:
    chosen = {name: value for name, _, value in _C.env_switches()}["VIBETENSOR_CUDA_ALLOCATOR"]
    return chosen or "segments"


def memory_summary(device: DeviceLike = None, abbreviated: bool = False) -> str:
    """The counters as a table to read; `abbreviated` leaves out the two kinds of requests."""
    stats = memory_stats(device)
    rows = [
        ("Allocated memory", "allocated_bytes", True),
        ("Active memory", "active_bytes", True),
        ("Requested memory", "requested_bytes", True),
        ("Reserved memory", "reserved_bytes", True),
        ("Unusable beside live blocks", "inactive_split_bytes", True),
        ("Allocations", "allocation", False),
        ("Active allocations", "active", False),
        ("Segments", "segment", False),
        ("Free parts of segments", "inactive_split", False),
    ]
    kinds = [("all", "")]
    if not abbreviated:
        kinds += [("large_pool", "  of large requests"), ("small_pool", "  of small requests")]
    when = ("current", "peak", "allocated", "freed")
    lines = [
        f"Memory of {place(device)}",
        f"out of memory: {stats['num_ooms']}, retries: {stats['num_alloc_retries']}, "
        f"calls of the driver: {stats['num_device_alloc']} to take, "
        f"{stats['num_device_free']} to give back",
        f"{'':32}" + "".join(f"{title:>14}" for title in ("now", "peak", "sum taken", "sum freed")),
    ]
    for title, name, is_bytes in rows:
        for kind, label in kinds:
            values = (stats[f"{name}.{kind}.{moment}"] for moment in when)
            cells = "".join(f"{_bytes(v) if is_bytes else v:>14}" for v in values)
            lines.append(f"{label or title:32}" + cells)
    return "\n".join(lines) + "\n"


def memory_snapshot(device: DeviceLike = None) -> list[dict[str, Any]]:
    """The segments of the allocator with their blocks, ordered by address; None means every GPU."""
    return [
        segment for index in _indices(device) for segment in _C.memory_snapshot(place(index))[0]
    ]


def _record_memory_history(
    enabled: str | None = "all",
    context: str | None = "all",
    stacks: str = "all",
    max_entries: int = sys.maxsize,
    device: DeviceLike = None,
) -> None:
    """Keeps what the allocators do from now on, for `_snapshot`; None as `enabled` stops that.

    Args:
        enabled: "all" keeps events, "state" only the stacks of live blocks.
        context: None leaves out the Python stacks that made the requests.
        stacks: "all" or "python": frames of Python either way, none of C++.
        max_entries: how many events a GPU keeps, the last ones.
        device: a GPU, or None for every one.

    Raises:
        ValueError: an argument has no such value.
    """
    if enabled not in (None, "all", "state") or stacks not in ("all", "python"):
        raise ValueError(
            "_record_memory_history: expected enabled None, 'all' or 'state' and stacks 'all' or "
            f"'python', got {enabled!r} and {stacks!r}"
        )
    for index in _indices(device):
        if enabled is None:
            _C.stop_memory_history(place(index))
        else:
            capacity = 0 if enabled == "state" else max_entries
            _C.record_memory_history(place(index), capacity, context is not None)


def _snapshot(device: DeviceLike = None) -> dict[str, Any]:
    """Segments and events of the allocators, as PyTorch's memory viewer reads them."""
    found = {index: _C.memory_snapshot(place(index)) for index in _indices(device)}
    return {
        "segments": [segment for segments, _ in found.values() for segment in segments],
        "device_traces": [found.get(i, ([], []))[1] for i in range(device_count())],
        "allocator_settings": {
            "VIBETENSOR_CUDA_ALLOCATOR": _allocator(),
            "expandable_segments": _allocator() == "expandable",
            "max_split_size": -1,
            "garbage_collection_threshold": 0.0,
        },
        "external_annotations": [],
    }


def _dump_snapshot(filename: str | PathLike[str] = "dump_snapshot.pickle") -> None:
    """Writes `_snapshot()` to a file that pytorch.org/memory_viz opens."""
    with open(filename, "wb") as file:
        pickle.dump(_snapshot(), file)


def _indices(device: DeviceLike) -> list[int]:
    return list(range(device_count())) if device is None else [place(device).index]


def _bytes(count: int) -> str:
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
