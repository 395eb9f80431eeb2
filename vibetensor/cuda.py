"""`torch.cuda`: the GPUs of this process, their streams and memory. It imports without a GPU."""

from __future__ import annotations

from typing import Any

from vibetensor import _C
from vibetensor.graphs import (
    CUDAGraph,
    graph,
    graph_pool_handle,
    is_current_stream_capturing,
)

Event = _C.Event
OutOfMemoryError = _C.OutOfMemoryError
Stream = _C.Stream

__all__ = [
    "CUDAGraph",
    "Event",
    "OutOfMemoryError",
    "Stream",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "empty_cache",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "graph",
    "graph_pool_handle",
    "is_available",
    "is_current_stream_capturing",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "max_memory_reserved",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "reset_peak_memory_stats",
    "set_device",
    "stream",
    "synchronize",
]

DeviceLike = int | str | _C.device | None


def device_count() -> int:
    """How many GPUs this process can use: 0 without a driver, or in a build without CUDA."""
    return _C.device_count("cuda")


def is_available() -> bool:
    """Whether there is a GPU to use."""
    return device_count() > 0


def current_device() -> int:
    """The index that "cuda" means on this thread."""
    return _C.current_device()


def set_device(device: DeviceLike) -> None:
    """Makes "cuda" mean that GPU on this thread.

    Raises:
        RuntimeError: there is no such GPU.
    """
    _C.set_device(_index(device))


class device:
    """Makes "cuda" mean one GPU within a block; None changes nothing."""

    def __init__(self, device: DeviceLike) -> None:
        self.idx = None if device is None else _index(device)
        self._previous = 0

    def __enter__(self) -> None:
        if self.idx is not None:
            self._previous = _C.current_device()
            _C.set_device(self.idx)

    def __exit__(self, *_: object) -> None:
        if self.idx is not None:
            _C.set_device(self._previous)


def synchronize(device: DeviceLike = None) -> None:
    """Waits until all work queued on a GPU is done."""
    _C.synchronize(_device(device))


def current_stream(device: DeviceLike = None) -> _C.Stream:
    """The stream that this thread queues work of a GPU on."""
    return _C.current_stream(_device(device))


def default_stream(device: DeviceLike = None) -> _C.Stream:
    """The stream that every thread starts with."""
    return _C.default_stream(_device(device))


class stream:
    """Queues work on one stream within a block; None changes nothing."""

    def __init__(self, stream: _C.Stream | None) -> None:
        self.stream = stream
        self._previous: _C.Stream | None = None

    def __enter__(self) -> None:
        if self.stream is not None:
            self._previous = _C.current_stream(self.stream.device)
            _C.set_stream(self.stream)

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            _C.set_stream(self._previous)


def memory_stats(device: DeviceLike = None) -> dict[str, int]:
    """What the allocator of a GPU holds and held: bytes and counts by name."""
    return _C.memory_stats(_device(device))


def memory_allocated(device: DeviceLike = None) -> int:
    """Bytes held by live tensors."""
    return memory_stats(device)["allocated"]


def max_memory_allocated(device: DeviceLike = None) -> int:
    """The most bytes held by live tensors since the last reset."""
    return memory_stats(device)["peak_allocated"]


def memory_reserved(device: DeviceLike = None) -> int:
    """Bytes taken from the driver."""
    return memory_stats(device)["reserved"]


def max_memory_reserved(device: DeviceLike = None) -> int:
    """The most bytes taken from the driver since the last reset."""
    return memory_stats(device)["peak_reserved"]


def reset_peak_memory_stats(device: DeviceLike = None) -> None:
    """Peaks start again from what is held now."""
    _C.reset_peak_memory(_device(device))


def empty_cache() -> None:
    """Gives memory that no tensor uses back to the driver, on every GPU."""
    for index in range(device_count()):
        _C.empty_cache(_device(index))


def get_device_properties(device: DeviceLike = None) -> Any:
    """name, total_memory (bytes), major, minor, multi_processor_count, pci_bus_id of a GPU."""
    return _C.device_properties(_device(device))


def get_device_name(device: DeviceLike = None) -> str:
    """What the vendor calls the GPU."""
    name: str = get_device_properties(device).name
    return name


def get_device_capability(device: DeviceLike = None) -> tuple[int, int]:
    """(major, minor), as (9, 0) for Hopper."""
    properties = get_device_properties(device)
    return properties.major, properties.minor


def manual_seed(seed: int) -> None:
    """Seeds the numbers of the current GPU; nothing happens without one, as in torch."""
    if is_available():
        _C.manual_seed(seed, _device(None))


def manual_seed_all(seed: int) -> None:
    """Seeds the numbers of every GPU; nothing happens without one, as in torch."""
    for index in range(device_count()):
        _C.manual_seed(seed, _device(index))


def _device(device: DeviceLike) -> _C.device:
    return _C.device(f"cuda:{_index(device)}")


def _index(device: DeviceLike) -> int:
    if device is None:
        return _C.current_device()
    if isinstance(device, int):
        return device
    found = _C.device(device) if isinstance(device, str) else device
    if found.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {device}")
    return _C.current_device() if found.index is None else found.index
