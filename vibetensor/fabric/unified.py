"""Unified memory: tensors whose pages move between a device and the host, within a hard cap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vibetensor import _C

Device = str | _C.device


@dataclass(frozen=True)
class Residency:
    """What the driver says about all pages of a tensor.

    `preferred` is where they were advised to stay, `prefetched` where they were moved last by
    `prefetch`, as "cpu" or "cuda:0"; None where pages differ, or nothing was asked for.
    `accessed_by` are the devices that keep them mapped, `read_mostly` whether readers get copies.

    The driver does not tell where a page is at this moment: a kernel that touches a page on the
    host moves it, or maps it, without a trace here. Ask for a slice to learn about a part.
    """

    preferred: str | None
    prefetched: str | None
    read_mostly: bool
    accessed_by: tuple[str, ...]


@dataclass(frozen=True)
class UnifiedUse:
    """Bytes of unified memory held for a device, how many may be, and what is free there."""

    held: int
    cap: int
    free: int


def unified_empty(
    size: Sequence[int] | int, dtype: _C.dtype | None = None, device: Device | None = None
) -> _C.Tensor:
    """An uninitialised tensor in unified memory.

    Kernels of `device` use it like any other tensor; the driver moves pages there when they are
    touched, and to the host when `prefetch` says so. On a CPU device it is ordinary memory, so that
    programs run anywhere.

    Args:
        size: the shape.
        dtype: the element type; None is float32.
        device: whose kernels use it; None is the current GPU or, without one, cpu:0.

    Raises:
        OutOfMemoryError: more than the cap (see `unified_limit`) would be held; the message says
            what was asked for, held, allowed and free.
        FabricError: the GPU and the host cannot use unified memory at the same time.
    """
    sizes = [size] if isinstance(size, int) else list(size)
    place = ("cuda" if _C.device_count("cuda") else "cpu:0") if device is None else device
    return _C.unified_empty(sizes, _C.float32 if dtype is None else dtype, place)


def unified_zeros(
    size: Sequence[int] | int, dtype: _C.dtype | None = None, device: Device | None = None
) -> _C.Tensor:
    """`unified_empty`, filled with zeros by the device."""
    return unified_empty(size, dtype, device).zero_()


def is_unified(tensor: _C.Tensor) -> bool:
    """Whether the tensor, or what it is a view of, lies in unified memory."""
    return _C.is_unified(tensor)


def advise(
    tensor: _C.Tensor,
    *,
    preferred: Device | None = None,
    accessed_by: Device | Sequence[Device] = (),
    read_mostly: bool | None = None,
) -> None:
    """Advice about the pages that the tensor, which may be a slice, lies in.

    Advice is for whole pages (as a rule 64 KiB): what shares a page with the slice shares it.

    Args:
        preferred: where the pages stay if they can, a GPU or "cpu"; "none" takes that back.
        accessed_by: devices that keep the pages mapped wherever they are, so that they read them
            without moving them.
        read_mostly: True gives each reader a copy of the page, which a write drops again; False
            takes that back.

    Raises:
        ValueError: the tensor is not in unified memory.
    """
    if preferred is not None:
        if str(preferred) == "none":
            _C.unified_advise(tensor, "not_preferred", "cpu:0")
        else:
            _C.unified_advise(tensor, "preferred", preferred)
    users = [accessed_by] if isinstance(accessed_by, (str, _C.device)) else list(accessed_by)
    for user in users:
        _C.unified_advise(tensor, "accessed_by", user)
    if read_mostly is not None:
        advice = "read_mostly" if read_mostly else "not_read_mostly"
        _C.unified_advise(tensor, advice, "cpu:0")


def prefetch(tensor: _C.Tensor, where: Device) -> None:
    """Moves the pages of the tensor, which may be a slice, to a GPU or to "cpu".

    Queued on the current stream of the tensor's device: later work there finds them moved.

    Raises:
        ValueError: the tensor is not in unified memory.
    """
    _C.unified_prefetch(tensor, where)


def residency(tensor: _C.Tensor) -> Residency:
    """What is known about where the tensor's pages are.

    Raises:
        ValueError: the tensor is not in unified memory.
    """
    found = _C.unified_residency(tensor)

    def name(place: _C.device | None) -> str | None:
        return None if place is None else "cpu" if place.type == "cpu" else str(place)

    prefetched = name(found["prefetched"])
    if tensor.device.type == "cpu":
        prefetched = "cpu"  # there is nowhere else
    return Residency(
        preferred=name(found["preferred"]),
        prefetched=prefetched,
        read_mostly=found["read_mostly"],
        accessed_by=tuple(name(place) or "" for place in found["accessed_by"]),
    )


def unified_limit(bytes: int | None) -> None:
    """Caps the unified memory that the process holds for each device.

    Without a limit, and with one that is larger, the cap is a quarter of the memory that is free on
    the device at each allocation.

    Args:
        bytes: the cap; None takes it back.
    """
    _C.set_unified_limit(bytes)


def unified_use(device: Device) -> UnifiedUse:
    """How much unified memory is held for a device, and how much may be."""
    return UnifiedUse(*_C.unified_use(device))
