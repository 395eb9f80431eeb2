"""The forms of `to(...)`, read into one function that converts a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vibetensor import _C

Tensor = _C.Tensor


def parse_to(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """Reads a device, a dtype and a tensor that gives both, in any order.

    The function returned moves tensors, casts the floating-point ones, and returns a tensor itself
    where nothing changes.

    Raises:
        TypeError: an unknown keyword, or a dtype that is not floating point.
    """
    device, dtype, non_blocking = _read(args, kwargs)
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(
            f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype}"
        )

    def convert(tensor: Tensor) -> Tensor:
        wanted = dtype if dtype is not None and tensor.dtype.is_floating_point else tensor.dtype
        place = tensor.device if device is None else device
        if wanted == tensor.dtype and place == tensor.device:
            return tensor
        return tensor.to(device=place, dtype=wanted, non_blocking=non_blocking)

    return convert


def _read(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[_C.device | None, _C.dtype | None, bool]:
    device = kwargs.pop("device", None)
    dtype = kwargs.pop("dtype", None)
    non_blocking = bool(kwargs.pop("non_blocking", False))
    if kwargs:
        raise TypeError(f"to() got an unexpected keyword argument '{next(iter(kwargs))}'")
    for arg in args:
        if isinstance(arg, _C.Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, _C.dtype):
            dtype = arg
        elif isinstance(arg, bool):
            non_blocking = arg
        elif arg is not None:
            device = arg
    if isinstance(device, int) and not isinstance(device, bool):
        device = f"cuda:{device}"
    if device is not None and not isinstance(device, _C.device):
        device = _C.device(device)
    return device, dtype, non_blocking
