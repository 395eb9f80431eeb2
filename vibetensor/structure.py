"""Nested arguments and results of a step: what a graph depends on in them, and their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vibetensor import _C

Tensor = _C.Tensor

_CONSTANTS = (int, float, complex, str, bytes, bool, type(None))


def key_of(value: Any, tensors: list[Tensor]) -> Any:
    """What a graph depends on in an argument; tensors that are copied in are appended."""
    if isinstance(value, Tensor):
        if value.requires_grad:
            return (id(value), value.data_ptr())
        tensors.append(value)
        return (value.shape, value.dtype)
    if isinstance(value, (tuple, list)):
        return (type(value), *[key_of(each, tensors) for each in value])
    if isinstance(value, dict):
        return (dict, *[(name, key_of(each, tensors)) for name, each in value.items()])
    if isinstance(value, _CONSTANTS):
        return (type(value), value)
    return (type(value), id(value))


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same structure with each tensor replaced; other leaves as they are."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[map_tensors(function, each) for each in value])
    if isinstance(value, (tuple, list)):
        return type(value)([map_tensors(function, each) for each in value])
    if isinstance(value, dict):
        return {name: map_tensors(function, each) for name, each in value.items()}
    return value


def leaves_of(value: Any) -> Iterator[Any]:
    """What is in a structure, from left to right."""
    if isinstance(value, (tuple, list)):
        for each in value:
            yield from leaves_of(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from leaves_of(each)
    else:
        yield value
