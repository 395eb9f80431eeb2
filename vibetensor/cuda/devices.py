"""Which GPUs there are, what they are, and which one "cuda" means."""

from __future__ import annotations

from typing import Any

from vibetensor import _C

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
    _C.set_device(index_of(device))


class device:
    """Makes "cuda" mean one GPU within a block; None or a negative index changes nothing.

    Raises:
        RuntimeError: on entry, if there is no such GPU.
    """

    def __init__(self, device: DeviceLike) -> None:
        self.idx = None if device is None else index_of(device)
        self._previous: list[int] = []

    def __enter__(self) -> None:
        self._previous.append(_C.current_device())
        if self.idx is not None and self.idx >= 0:
            _C.set_device(self.idx)

    def __exit__(self, *_: object) -> None:
        previous = self._previous.pop()
        if previous != _C.current_device():
            _C.set_device(previous)


class device_of(device):
    """Makes "cuda" mean the GPU of a tensor within a block; a CPU tensor changes nothing."""

    def __init__(self, tensor: _C.Tensor) -> None:
        super().__init__(tensor.device.index if tensor.device.type == "cuda" else None)


def synchronize(device: DeviceLike = None) -> None:
    """Waits until all work queued on a GPU is done."""
    _C.synchronize(place(device))


def get_device_properties(device: DeviceLike = None) -> Any:
    """name, total_memory (bytes), major, minor, multi_processor_count, pci_bus_id of a GPU."""
    return _C.device_properties(place(device))


def get_device_name(device: DeviceLike = None) -> str:
    """What the vendor calls the GPU."""
    name: str = get_device_properties(device).name
    return name


def get_device_capability(device: DeviceLike = None) -> tuple[int, int]:
    """(major, minor), as (9, 0) for Hopper."""
    properties = get_device_properties(device)
    return properties.major, properties.minor


def can_device_access_peer(device: DeviceLike, peer_device: DeviceLike) -> bool:
    """Whether kernels of one GPU may use the memory of the other; False for one and the same."""
    return _C.can_access_peer(place(device), place(peer_device))


def manual_seed(seed: int) -> None:
    """Seeds the numbers of the current GPU; nothing happens without one, as in torch."""
    if is_available():
        _C.manual_seed(seed, place(None))


def manual_seed_all(seed: int) -> None:
    """Seeds the numbers of every GPU; nothing happens without one, as in torch."""
    for index in range(device_count()):
        _C.manual_seed(seed, place(index))


def place(device: DeviceLike) -> _C.device:
    """The GPU that is meant: an index, "cuda", "cuda:1", a device; None is the current one."""
    return _C.device("cuda", index_of(device))


def index_of(device: DeviceLike) -> int:
    """The index of the GPU that is meant.

    Raises:
        ValueError: the device is not a GPU.
    """
    if device is None:
        return _C.current_device()
    if isinstance(device, int):
        return device
    found = _C.device(device) if isinstance(device, str) else device
    if found.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {device}")
    return _C.current_device() if found.index is None else found.index
