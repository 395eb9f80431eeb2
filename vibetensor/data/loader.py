"""DataLoader: batches of a dataset, loaded by threads ahead of their use if asked."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from vibetensor import _C
from vibetensor.data.collate import default_collate, map_tensors
from vibetensor.data.dataset import IterableDataset, TensorDataset
from vibetensor.data.generator import Generator
from vibetensor.data.sampler import BatchSampler, RandomSampler, SequentialSampler


class DataLoader:
    """Iterates over batches; a new order for each epoch where `shuffle` is set.

    Args:
        dataset: items by index, or an `IterableDataset`.
        batch_size: items a batch; None gives single items, without collating.
        shuffle: visit the items in random order; the seed comes from `generator` or `manual_seed`.
        sampler, batch_sampler: the order of indices, or of whole batches, in place of shuffle.
        num_workers: threads that load ahead. Batches arrive in the same order with any number.
        collate_fn: makes a batch of a list of items; `default_collate` if None.
        pin_memory: hands out batches in page-locked memory, which a GPU copies from without
            waiting.
        drop_last: leave out a last batch that is not full.
        prefetch_factor: batches that each worker loads ahead, 2 by default.
        worker_init_fn: called with its number by each worker when it starts.

    Raises:
        ValueError: options that exclude each other, or are out of range.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        *,
        prefetch_factor: int | None = None,
        worker_init_fn: Callable[[int], None] | None = None,
        generator: Generator | None = None,
    ) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers must not be negative, got {num_workers}")
        if prefetch_factor is not None and (num_workers == 0 or prefetch_factor < 1):
            raise ValueError("prefetch_factor is for num_workers > 0, and at least 1")
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None and (
            batch_size != 1 or shuffle or sampler is not None or drop_last
        ):
            raise ValueError(
                "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and "
                "drop_last"
            )
        self._streams = isinstance(dataset, IterableDataset)
        if self._streams and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError(
                "an IterableDataset has its own order: shuffle and samplers exclude it"
            )
        self.dataset = dataset
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.prefetch_factor = 2 if prefetch_factor is None else prefetch_factor
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.batch_size = None if batch_sampler is not None else batch_size
        if sampler is None and not self._streams:
            sampler = (
                RandomSampler(dataset, generator=generator)
                if shuffle
                else SequentialSampler(dataset)
            )
        self.sampler = sampler
        if batch_sampler is None and batch_size is not None:
            batch_sampler = BatchSampler(sampler or (), batch_size, drop_last)
        self.batch_sampler = batch_sampler
        self.collate_fn = collate_fn or default_collate

    def __len__(self) -> int:
        """Batches an epoch; TypeError where the dataset or sampler has no length."""
        if self._streams:
            size = len(self.dataset)
            if self.batch_size is None:
                return size
            return size // self.batch_size if self.drop_last else -(-size // self.batch_size)
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        jobs = self._stream_jobs() if self._streams else self._index_jobs()
        if self.num_workers == 0:
            return (self._finish(self._load(job)) for job in jobs)
        return self._ahead(jobs)

    def _index_jobs(self) -> Iterator[Any]:
        return iter(self.sampler or () if self.batch_sampler is None else self.batch_sampler)

    def _stream_jobs(self) -> Iterator[Any]:
        items = iter(self.dataset)
        if self.batch_size is None:
            yield from items
            return
        while batch := list(itertools.islice(items, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield batch

    def _load(self, job: Any) -> Any:
        """One batch from what the order gave: indices, or the items of a stream themselves."""
        if self.batch_sampler is None:
            return job if self._streams else self.dataset[job]
        if self._streams:
            return self.collate_fn(job)
        if type(self.dataset) is TensorDataset and self.collate_fn is default_collate:
            return self.dataset.rows(job)
        return self.collate_fn([self.dataset[index] for index in job])

    def _finish(self, batch: Any) -> Any:
        if self.pin_memory and _C.device_count("cuda") > 0:
            return map_tensors(lambda tensor: tensor.pin_memory(), batch)
        return batch

    def _ahead(self, jobs: Iterator[Any]) -> Iterator[Any]:
        """Batches in order, with `num_workers * prefetch_factor` of them under way."""
        numbers = itertools.count()

        def start() -> None:
            if self.worker_init_fn is not None:
                self.worker_init_fn(next(numbers))

        pool = ThreadPoolExecutor(self.num_workers, "vibetensor-data", start)
        waiting: deque[Future[Any]] = deque()
        try:
            for job in itertools.islice(jobs, self.num_workers * self.prefetch_factor):
                waiting.append(pool.submit(self._load, job))
            while waiting:
                batch = waiting.popleft().result()
                for job in itertools.islice(jobs, 1):
                    waiting.append(pool.submit(self._load, job))
                yield self._finish(batch)
        finally:
            for future in waiting:
                future.cancel()
            pool.shutdown(wait=False)
