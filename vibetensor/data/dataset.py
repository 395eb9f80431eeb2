"""Datasets: things with a length and items, and ways to put them together and take them apart."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from vibetensor import _C
from vibetensor.data.generator import Generator, default_generator

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Items by index: a subclass gives `__getitem__` and `__len__`."""

    def __getitem__(self, index: int) -> T_co:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Items in the order in which they come: a subclass gives `__iter__`."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")


class TensorDataset(Dataset[tuple[_C.Tensor, ...]]):
    """Item i is row i of each tensor.

    Raises:
        ValueError: tensors whose first dimensions differ.
    """

    def __init__(self, *tensors: _C.Tensor) -> None:
        sizes = [tensor.shape[0] for tensor in tensors]
        if len(set(sizes)) > 1:
            raise ValueError(f"TensorDataset: size mismatch between tensors, first dims {sizes}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[_C.Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])

    def rows(self, indices: list[int]) -> list[_C.Tensor]:
        """The items of several indices, stacked, in one gather a tensor."""
        chosen = _C.tensor(indices)
        return [tensor.index_select(0, chosen.to(tensor.device)) for tensor in self.tensors]


class Subset(Dataset[T_co]):
    """The items of another dataset at the given indices."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: int) -> T_co:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[Any]):
    """Several datasets one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: datasets should not be an empty iterable")
        self._ends = list(itertools.accumulate(len(dataset) for dataset in self.datasets))

    def __getitem__(self, index: int) -> Any:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"ConcatDataset: index {index} is out of range for {size} items")
        index %= size
        which = bisect.bisect_right(self._ends, index)
        return self.datasets[which][index - (self._ends[which - 1] if which else 0)]

    def __len__(self) -> int:
        return self._ends[-1]


def random_split(
    dataset: Any, lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset[Any]]:
    """Splits a dataset at random into parts of the given lengths, or shares that sum to 1.

    Raises:
        ValueError: lengths that do not sum to the length of the dataset.
    """
    size = len(dataset)
    counts = list(lengths)
    if sum(counts) <= 1 and math.isclose(sum(counts), 1):
        floors = [math.floor(size * share) for share in counts]
        for i in range(size - sum(floors)):
            floors[i % len(floors)] += 1
        counts = list(floors)
    if sum(counts) != size:
        raise ValueError(
            f"random_split: lengths {list(lengths)} do not sum to the {size} items of the dataset"
        )
    order = (generator or default_generator()).permutation(size)
    ends = list(itertools.accumulate(int(count) for count in counts))
    return [
        Subset(dataset, order[end - int(count) : end])
        for end, count in zip(ends, counts, strict=True)
    ]
