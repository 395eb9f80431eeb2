"""`torch.cuda.profiler`: when NVIDIA's profilers collect that were told to wait for it, as
`nsys profile --capture-range=cudaProfilerApi` is. `torch.profiler` needs none of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vibetensor import _C

__all__ = ["profile", "start", "stop"]


def start() -> None:
    """Begins to collect; nothing happens where no profiler waits."""
    _C.begin_collection()


def stop() -> None:
    """Ends that."""
    _C.end_collection()


@contextmanager
def profile() -> Iterator[None]:
    """Collects what happens in a block."""
    start()
    try:
        yield
    finally:
        stop()
