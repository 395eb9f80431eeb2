"""Collating: a list of items becomes one batch of tensors, in the structure of the items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vibetensor import _C


def default_collate(batch: Sequence[Any]) -> Any:
    """Stacks tensors, arrays and numbers along a new first dimension; keeps strings as they are.

    Dicts, tuples, named tuples and lists are collated element by element; a tuple becomes a list,
    as in torch.

    Raises:
        TypeError: items of another type.
        ValueError: sequences of different lengths.
    """
    first = batch[0]
    if isinstance(first, _C.Tensor):
        return _C.ops.stack(batch)
    if isinstance(first, np.ndarray):
        return _C.from_numpy(np.stack(batch))
    if isinstance(first, np.generic):
        return _C.from_numpy(np.asarray(batch))
    if isinstance(first, bool):
        return _C.tensor(batch)
    if isinstance(first, float):
        return _C.tensor(batch, dtype=_C.float64)
    if isinstance(first, int):
        return _C.tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return {key: default_collate([item[key] for item in batch]) for key in first}
    if isinstance(first, Sequence):
        if any(len(item) != len(first) for item in batch):
            raise ValueError(
                "default_collate: each element in list of batch should be of equal size, got "
                f"lengths {sorted({len(item) for item in batch})}"
            )
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        if hasattr(first, "_fields"):
            return type(first)(*columns)
        return columns
    raise TypeError(
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
        f"found {type(first)}"
    )


def map_tensors(function: Callable[[_C.Tensor], Any], data: Any) -> Any:
    """The same structure with `function` applied to every tensor in it."""
    if isinstance(data, _C.Tensor):
        return function(data)
    if isinstance(data, Mapping):
        return {key: map_tensors(function, value) for key, value in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(map_tensors(function, value) for value in data))
    if isinstance(data, (list, tuple)):
        return type(data)(map_tensors(function, value) for value in data)
    return data
