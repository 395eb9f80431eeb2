"""Batches: how one is cut along its first dimension, and brought to the devices of the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vibetensor import _C

Tensor = _C.Tensor


def size_of(batch: Any) -> int:
    """How many samples a batch has: the first dimension, the same in every tensor.

    Raises:
        ValueError: tensors of different first dimensions.
        TypeError: no tensor with a first dimension at all.
    """
    sizes: list[int] = []

    def look(tensor: Tensor) -> Tensor:
        if tensor.ndim > 0:
            sizes.append(tensor.shape[0])
        return tensor

    _map(look, batch)
    if not sizes:
        raise TypeError(
            f"batch: found no tensor with a first dimension to split in a {type(batch).__name__}; "
            "a batch is a tensor, or a tuple, list or dict of tensors"
        )
    if len(set(sizes)) > 1:
        raise ValueError(
            f"batch: its tensors have first dimensions {sizes}; all must count the same samples"
        )
    return sizes[0]


def split(batch: Any, parts: int) -> list[tuple[Any, int]]:
    """Cuts a batch into `parts` pieces of nearly equal size, each with its number of samples.

    Where the samples do not divide evenly, the first pieces have one more. A tensor without
    dimensions goes to every piece.

    Raises:
        ValueError: fewer samples than parts.
    """
    size = size_of(batch)
    if size < parts:
        raise ValueError(
            f"batch: {size} samples cannot be split over {parts} ranks; use a batch of at least "
            f"{parts}, or fewer devices (drop_last=True makes a loader leave out a short last one)"
        )
    pieces = []
    start = 0
    for count in sizes(size, parts):
        pieces.append((_narrow(batch, start, count), count))
        start += count
    return pieces


def sizes(size: int, parts: int) -> list[int]:
    """How many of `size` samples each of `parts` pieces gets."""
    return [size // parts + (part < size % parts) for part in range(parts)]


def to_device(batch: Any, device: _C.device, dtype: _C.dtype | None = None) -> Any:
    """The batch on a device, its floating-point tensors in `dtype` if that is given.

    A copy to a GPU goes through page-locked memory and is not waited for.
    """

    def move(tensor: Tensor) -> Tensor:
        if tensor.device != device:
            if device.type == "cuda" and tensor.device.type == "cpu":
                tensor = tensor.contiguous().pin_memory()
            tensor = tensor.to(device, non_blocking=True)
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        return tensor

    return _map(move, batch)


def _narrow(batch: Any, start: int, count: int) -> Any:
    return _map(lambda tensor: tensor.narrow(0, start, count) if tensor.ndim > 0 else tensor, batch)


def _map(fn: Callable[[Tensor], Tensor], batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return fn(batch)
    if isinstance(batch, Mapping):
        return {key: _map(fn, value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_map(fn, value) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(_map(fn, value) for value in batch)
    return batch
