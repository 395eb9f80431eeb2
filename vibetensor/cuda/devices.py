"""Which GPUs there are, what they are, and which one "cuda" means."""

from __future__ import annotations

from vibetensor import _C

DeviceLike = int | str | _C.device | None


def device_count() -> int:
    """How many GPUs this process can use: 0 without a driver, or in a build without CUDA."""
    return _C.device_count("cuda")


def is_available() -> bool:
    """Whether there is a GPU to use."""
    return device_count() > 0


def init() -> None:
    """Nothing needs it: a GPU is made ready at its first use.

    Raises:
        RuntimeError: there is no GPU, and why.
    """
    if not is_available():
        raise RuntimeError(f"cuda: {_C.cuda_unavailable_reason()}")


def is_initialized() -> bool:
    """Whether GPUs can be used: they need no preparation."""
    return is_available()


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


class _Sync:
    mode = 0


def set_sync_debug_mode(debug_mode: int | str) -> None:
    """What happens where Python would wait for a GPU without asking to: at `item()`, `cpu()`,
    `nonzero()` and the like. `synchronize()` and its kind are left alone.

    Args:
        debug_mode: "default" or 0: nothing. "warn" or 1: a UserWarning at that line. "error" or 2:
            a RuntimeError, and nothing is done.

    Raises:
        ValueError: another mode.
    """
    modes: dict[int | str, int] = {"default": 0, 0: 0, "warn": 1, 1: 1, "error": 2, 2: 2}
    if debug_mode not in modes:
        raise ValueError(
            "set_sync_debug_mode: expected 'default', 'warn' or 'error' (0, 1, 2), got "
            f"{debug_mode!r}"
        )
    _Sync.mode = modes[debug_mode]
    _C.set_wait_mode(_Sync.mode)


def get_sync_debug_mode() -> int:
    """What `set_sync_debug_mode` chose: 0, 1 or 2."""
    return _Sync.mode


def get_device_properties(device: DeviceLike = None) -> _C.DeviceProperties:
    """What a GPU is, under PyTorch's names: name, total_memory (bytes), major, minor and others."""
    return _C.device_properties(place(device))


def get_device_name(device: DeviceLike = None) -> str:
    """What the vendor calls the GPU."""
    return get_device_properties(device).name


def get_device_capability(device: DeviceLike = None) -> tuple[int, int]:
    """(major, minor), as (9, 0) for Hopper."""
    properties = get_device_properties(device)
    return properties.major, properties.minor


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the current GPU computes in bfloat16, which all do from compute capability 8.0 on.

    Args:
        including_emulation: as in torch; nothing is emulated here.
    """
    return is_available() and get_device_capability() >= (8, 0)


def is_tf32_supported() -> bool:
    """Whether the current GPU multiplies in TF32; see `torch.backends.cuda.matmul`."""
    return is_available() and get_device_capability() >= (8, 0)


def get_arch_list() -> list[str]:
    """What this build has code for: "sm_90a" for GPUs of that kind, "compute_80" for newer ones."""
    names = []
    for entry in _C.build_info()["cuda_architectures"].split(","):
        number, _, form = entry.partition("-")
        names += [f"sm_{number}"] if number and form != "virtual" else []
        names += [f"compute_{number}"] if number and form != "real" else []
    return names


def can_device_access_peer(device: DeviceLike, peer_device: DeviceLike) -> bool:
    """Whether kernels of one GPU may use the memory of the other; False for one and the same."""
    return _C.can_access_peer(place(device), place(peer_device))


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
