"""Times of short GPU calls without the host's share: many captured in one graph."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from vibetensor import _C
from vibetensor.graphs import CUDAGraph, graph

__all__ = ["seconds_in_graph"]


def seconds_in_graph(
    call: Callable[[], object],
    devices: Sequence[_C.device | int | str],
    *,
    calls: int = 20,
    replays: int = 20,
    warmup: int = 3,
    whole: bool = True,
) -> list[float]:
    """The time of one call among `calls` captured in one graph, once for each replay, in seconds.

    Args:
        call: queues work on GPUs; it is called eagerly first, then `calls` times in the capture.
        devices: the GPUs it runs on.
        replays: how many replays are timed, on the first GPU's clock, after `warmup` others.
        whole: one graph over all GPUs; False for one a GPU.

    Raises:
        RuntimeError: something in the call cannot be captured.
    """
    if calls < 1 or replays < 1:
        raise ValueError(f"seconds_in_graph: got {calls} calls and {replays} replays")
    call()
    work = CUDAGraph(devices, whole=whole)
    with graph(work):
        for _ in range(calls):
            call()
    for _ in range(warmup):
        work.replay()
    stream = _C.current_stream(work.devices[0])
    marks = [_C.Event(enable_timing=True) for _ in range(replays + 1)]
    marks[0].record(stream)
    for mark in marks[1:]:
        work.replay()
        mark.record(stream)
    for device in work.devices:
        _C.synchronize(device)
    pairs = itertools.pairwise(marks)
    return [start.elapsed_time(end) * 1e-3 / calls for start, end in pairs]
