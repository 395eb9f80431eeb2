"""Where a run is in its data, so that it can go on with the very next batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vibetensor import _C
from vibetensor.data.generator import Generator


class Position:
    """Walks through a loader, epoch by epoch, and can be saved and restored between two batches.

    A loader with `state_dict` and `load_state_dict` is asked where it is. Any other is started
    again from the random state that its epoch started with, and the batches of the epoch that were
    used are passed over.
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader
        self.epoch = 0
        self.batch = 0  # batches of this epoch that were handed out
        self._start: dict[str, Any] = {}
        self._iterator: Iterator[Any] | None = None

    def next(self) -> Any:
        """The next batch; None at the end of an epoch, after which the next one starts.

        Raises:
            ValueError: the loader gives no batch at all.
        """
        if self._iterator is None:
            if not self._keeps_state:
                self._start = self._random_state()
            self._iterator = iter(self.loader)
        try:
            batch = next(self._iterator)
        except StopIteration:
            if self.batch == 0:
                raise ValueError("fit: the loader gives no batch") from None
            self._iterator = None
            self.epoch += 1
            self.batch = 0
            return None
        self.batch += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch comes from."""
        state: dict[str, Any] = {"epoch": self.epoch, "batch": self.batch}
        if self._keeps_state:
            state["loader"] = self.loader.state_dict()  # type: ignore[attr-defined]
        else:
            state["start"] = self._start if self.batch else self._random_state()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was called, with a loader made alike.

        Raises:
            ValueError: the loader ends before that place.
        """
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])
        self._iterator = None
        if self._keeps_state:
            self.loader.load_state_dict(state["loader"])  # type: ignore[attr-defined]
            return
        now = {"cpu": _C.get_rng_state(_C.device("cpu:0"))}
        self._start = state["start"]
        self._set_random_state(self._start)
        if self.batch:
            self._iterator = iter(self.loader)
            for i in range(self.batch):
                if next(self._iterator, None) is None:
                    raise ValueError(
                        f"resume: the checkpoint was written after {self.batch} batches of an "
                        f"epoch, the loader now gives {i}; use the same data and batch size"
                    )
        self._set_random_state(now)

    @property
    def _keeps_state(self) -> bool:
        return hasattr(self.loader, "state_dict") and hasattr(self.loader, "load_state_dict")

    def _generator(self) -> Generator | None:
        for owner in (self.loader, getattr(self.loader, "sampler", None)):
            found = getattr(owner, "generator", None)
            if isinstance(found, Generator):
                return found
        return None

    def _random_state(self) -> dict[str, Any]:
        state = {"cpu": _C.get_rng_state(_C.device("cpu:0"))}
        if (generator := self._generator()) is not None:
            state["generator"] = generator.get_state()
        return state

    def _set_random_state(self, state: dict[str, Any]) -> None:
        _C.set_rng_state(_C.device("cpu:0"), state["cpu"])
        if "generator" in state and (generator := self._generator()) is not None:
            generator.set_state(state["generator"])
