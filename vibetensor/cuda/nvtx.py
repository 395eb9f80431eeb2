"""Named ranges of host time for NVIDIA's profilers (Nsight Systems); free unless one listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vibetensor import _C


def range_push(msg: str) -> int:
    """Opens a range on this thread. Returns how many were open before."""
    return _C.nvtx_push(msg)


def range_pop() -> int:
    """Closes the last range that this thread opened. Returns how many are still open.

    Raises:
        RuntimeError: none is open.
    """
    return _C.nvtx_pop()


def range_start(msg: str) -> int:
    """Opens a range that may overlap others and end on another thread. Returns what ends it."""
    return _C.nvtx_start(msg)


def range_end(range_id: int) -> None:
    """Closes a range that `range_start` opened."""
    _C.nvtx_end(range_id)


def mark(msg: str) -> None:
    """Marks a moment on this thread."""
    _C.nvtx_mark(msg)


@contextmanager
def range(msg: str, *args: object, **kwargs: object) -> Iterator[None]:
    """A range around a block, or around a function as a decorator; `msg` is formatted."""
    range_push(msg.format(*args, **kwargs))
    try:
        yield
    finally:
        range_pop()
