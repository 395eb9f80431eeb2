"""Datasets, samplers and the loader: order, batches, threads, and what collating makes."""

from __future__ import annotations

import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch as pt
from oracle import to_pt
from vibetensor.torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    random_split,
)

import vibetensor.torch as vt


class Squares(Dataset[int]):
    def __init__(self, size: int = 10) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.size:
            raise IndexError(index)
        return index * index


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(7))


def values(loader: Any) -> list[Any]:
    return [batch.tolist() for batch in loader]


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_batches(num_workers: int) -> None:
    loader = DataLoader(Squares(), batch_size=4, num_workers=num_workers)
    assert values(loader) == [[0, 1, 4, 9], [16, 25, 36, 49], [64, 81]]
    assert len(loader) == 3 and values(loader) == values(loader)
    short = DataLoader(Squares(), 4, drop_last=True, num_workers=num_workers)
    assert values(short) == [[0, 1, 4, 9], [16, 25, 36, 49]] and len(short) == 2
    assert list(DataLoader(Squares(3), batch_size=None, num_workers=num_workers)) == [0, 1, 4]
    assert values(DataLoader(Squares(0), 4, num_workers=num_workers)) == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_shuffling_follows_the_seed(num_workers: int) -> None:
    def epochs(seed: int) -> list[Any]:
        vt.manual_seed(seed)
        loader = DataLoader(Squares(50), 8, shuffle=True, num_workers=num_workers)
        return [values(loader), values(loader)]

    first, second = epochs(1)
    assert first != second and epochs(1) == [first, second] and epochs(2)[0] != first
    assert sorted(item for batch in first for item in batch) == [i * i for i in range(50)]
    own = [
        values(DataLoader(Squares(), 3, True, generator=vt.Generator().manual_seed(5)))
        for _ in range(2)
    ]
    assert own[0] == own[1]


def test_tensor_dataset() -> None:
    x, y = vt.arange(12).reshape(6, 2), vt.arange(6)
    dataset = TensorDataset(x, y)
    assert len(dataset) == 6 and [part.tolist() for part in dataset[2]] == [[4, 5], 2]
    (a, b), *rest = DataLoader(dataset, 4)
    assert a.tolist() == x[:4].tolist() and b.tolist() == [0, 1, 2, 3] and len(rest) == 1
    plain = list(DataLoader(dataset, 4, collate_fn=lambda items: default_collate(items)))
    assert plain[0][0].tolist() == a.tolist() and plain[0][1].dtype == b.dtype
    with pytest.raises(ValueError, match="size mismatch"):
        TensorDataset(x, vt.arange(5))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streams(num_workers: int) -> None:
    assert values(DataLoader(Stream(), 3, num_workers=num_workers)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert values(DataLoader(Stream(), 3, drop_last=True)) == [[0, 1, 2], [3, 4, 5]]
    assert list(DataLoader(Stream(), None)) == list(range(7))
    with pytest.raises(ValueError, match="own order"):
        DataLoader(Stream(), 3, shuffle=True)
    with pytest.raises(TypeError):
        len(DataLoader(Stream(), 3))


def test_samplers() -> None:
    data = Squares(6)
    assert list(SequentialSampler(data)) == list(range(6))
    assert sorted(RandomSampler(data)) == list(range(6))
    assert len(list(RandomSampler(data, num_samples=9))) == 9
    drawn = list(RandomSampler(data, replacement=True, num_samples=100))
    assert len(drawn) == 100 and set(drawn) == set(range(6))
    assert sorted(SubsetRandomSampler([5, 7])) == [5, 7]
    assert set(WeightedRandomSampler([0.0, 1.0, 0.0, 2.0], 50)) == {1, 3}
    assert list(BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    assert values(DataLoader(data, 2, sampler=[3, 1])) == [[9, 1]]
    batches = DataLoader(data, batch_sampler=[[0], [5, 4]])
    assert values(batches) == [[0], [25, 16]] and len(batches) == 2


def test_splitting_and_joining() -> None:
    parts = random_split(Squares(), [7, 3], vt.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [7, 3]
    items = [part[i] for part in parts for i in range(len(part))]
    assert sorted(items) == [i * i for i in range(10)]
    assert [len(part) for part in random_split(Squares(), [0.5, 0.25, 0.25])] == [6, 2, 2]
    with pytest.raises(ValueError, match="do not sum to the 10 items"):
        random_split(Squares(), [7, 4])
    both = Squares(3) + Subset(Squares(), [9, 8])
    assert isinstance(both, ConcatDataset)
    assert [both[i] for i in range(5)] == [0, 1, 4, 81, 64] and both[-1] == 64
    with pytest.raises(IndexError, match="5 items"):
        both[5]


Pair = namedtuple("Pair", ["x", "y"])
BATCHES: list[list[Any]] = [
    [1, 2],
    [1.5, 2.5],
    [True, False],
    ["a", "b"],
    [np.float32(1), np.float32(2)],
    [np.zeros((2, 3), np.float64), np.ones((2, 3), np.float64)],
    [(1, 2.0), (3, 4.0)],
    [[1, 2], [3, 4]],
    [{"a": 1, "b": (2.0, "x")}, {"a": 3, "b": (4.0, "y")}],
    [Pair(1, 2), Pair(3, 4)],
]


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, pt.Tensor):
        assert str(ours.dtype) == str(theirs.dtype)
        pt.testing.assert_close(to_pt(ours), theirs)
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert type(ours) is type(theirs) and len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
    else:
        assert ours == theirs


@pytest.mark.parametrize("batch", BATCHES, ids=repr)
def test_collating_is_that_of_torch(batch: list[Any]) -> None:
    assert_same(default_collate(batch), pt.utils.data.default_collate(batch))


def test_collating_errors() -> None:
    with pytest.raises(TypeError, match="found <class 'object'>"):
        default_collate([object()])
    with pytest.raises(ValueError, match=r"equal size, got lengths \[1, 2\]"):
        default_collate([[1], [1, 2]])


def test_workers_load_ahead_in_parallel_and_in_order() -> None:
    lock, active, most = threading.Lock(), [0], [0]
    started: list[int] = []

    class Slow(Squares):
        def __getitem__(self, index: int) -> int:
            with lock:
                active[0] += 1
                most[0] = max(most[0], active[0])
            time.sleep(0.005 * (index % 3))
            with lock:
                active[0] -= 1
            return index

    loader = DataLoader(Slow(12), 1, num_workers=3, worker_init_fn=started.append)
    assert values(loader) == [[i] for i in range(12)]
    assert most[0] > 1 and sorted(started) == [0, 1, 2]


def test_an_error_in_a_worker_reaches_the_loop() -> None:
    class Broken(Squares):
        def __getitem__(self, index: int) -> int:
            if index == 5:
                raise RuntimeError("item 5 is broken")
            return index

    loader = iter(DataLoader(Broken(), 2, num_workers=2))
    assert [next(loader).tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(RuntimeError, match="item 5"):
        next(loader)


def test_leaving_early_stops_the_workers() -> None:
    before = threading.active_count()
    for batch in DataLoader(Squares(1000), 1, num_workers=2):
        assert batch.tolist() == [0]
        break
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": -1},
        {"num_workers": -1},
        {"prefetch_factor": 2},
        {"shuffle": True, "sampler": [0]},
        {"batch_sampler": [[0]], "batch_size": 2},
        {"batch_sampler": [[0]], "drop_last": True},
    ],
)
def test_options_that_torch_refuses(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        pt.utils.data.DataLoader([1], **options)
    with pytest.raises(ValueError):
        DataLoader([1], **options)
