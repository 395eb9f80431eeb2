"""Nested arguments and results of a step: what a graph depends on in them, and their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vibetensor import _C

Tensor = _C.Tensor

_CONSTANTS = (int, float, complex, str, bytes, bool, type(None))


class Placed:
    """A part of an argument of a step that runs on several GPUs: its tensors go to `device`."""

    __slots__ = ("device", "value")

    def __init__(self, value: Any, device: _C.device) -> None:
        self.value = value
        self.device = device


def _nothing(value: Any) -> Any:
    return None


def key_of(
    value: Any,
    tensors: list[tuple[Tensor, _C.device | None]],
    device: _C.device | None = None,
    about: Callable[[Any], Any] = _nothing,
) -> Any:
    """What a graph depends on in an argument; tensors that are copied in are appended, each with
    the GPU that the argument sends it to, if it does. `about` says what else counts of an object
    that is neither data nor a constant.
    """
    if isinstance(value, Tensor):
        if value.requires_grad:
            return (id(value), value.data_ptr())
        tensors.append((value, device))
        order = order_of(value) if value.device.type == "cuda" else None
        return (value.shape, value.dtype) if order is None else (value.shape, value.dtype, order)
    if isinstance(value, (tuple, list)):
        return (type(value), *[key_of(each, tensors, device, about) for each in value])
    if isinstance(value, dict):
        keys = [(name, key_of(each, tensors, device, about)) for name, each in value.items()]
        return (dict, *keys)
    if isinstance(value, Placed):
        return (Placed, value.device, key_of(value.value, tensors, value.device, about))
    if isinstance(value, _CONSTANTS):
        return (type(value), value)
    return (type(value), id(value), about(value))


def order_of(tensor: Tensor) -> tuple[int, ...] | None:
    """The dimensions of a dense tensor as they lie in memory, the outermost first; None where that
    is their own order, and where the tensor is not dense.
    """
    if tensor.is_contiguous():
        return None
    strides = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda dim: -strides[dim])
    return tuple(order) if tensor.permute(order).is_contiguous() else None


def place_like(tensor: Tensor, device: _C.device) -> Tensor:
    """Memory for the values of a tensor, in its order."""
    order = order_of(tensor)
    if order is None:
        return _C.ops.empty(tensor.shape, dtype=tensor.dtype, device=device)
    sizes = [tensor.shape[dim] for dim in order]
    place = _C.ops.empty(sizes, dtype=tensor.dtype, device=device)
    return place.permute(sorted(range(len(order)), key=lambda dim: order[dim]))


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same structure with each tensor replaced; other leaves as they are."""
    return map_placed(lambda tensor, _: function(tensor), value, None)


def map_placed(function: Callable[[Tensor, Any], Tensor], value: Any, device: Any) -> Any:
    """`map_tensors` of a function that also takes where the tensor goes, `device` by default."""
    if isinstance(value, Tensor):
        return function(value, device)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[map_placed(function, each, device) for each in value])
    if isinstance(value, (tuple, list)):
        return type(value)([map_placed(function, each, device) for each in value])
    if isinstance(value, dict):
        return {name: map_placed(function, each, device) for name, each in value.items()}
    if isinstance(value, Placed):
        return Placed(map_placed(function, value.value, value.device), value.device)
    return value


def leaves_of(value: Any) -> Iterator[Any]:
    """What is in a structure, from left to right."""
    if isinstance(value, (tuple, list)):
        for each in value:
            yield from leaves_of(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from leaves_of(each)
    elif isinstance(value, Placed):
        yield from leaves_of(value.value)
    else:
        yield value
