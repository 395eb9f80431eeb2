"""Whether graphs that hold collectives do here what they should, tried once before they are used.

A collective is one kernel on each GPU, and these wait for each other inside one graph, so they must
run at the same time. Whether a driver starts what a graph holds for several GPUs side by side is
not promised anywhere: a small graph is replayed under a deadline before a step depends on it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

from vibetensor import _C
from vibetensor.graphs import CUDAGraph, gpus, graph

__all__ = ["Form", "form_for"]

_log = logging.getLogger("vibetensor.capture")

_SECONDS = 5.0  # that the trial's collectives wait for each other
_COUNT = 1000  # elements, so that a rank has several blocks
_CALLS = 3  # in the graph
_REPLAYS = 2


class Form(NamedTuple):
    """How to capture work of some ranks: as one whole graph or one a GPU, or why not at all."""

    whole: bool
    problem: str


_forms: dict[tuple[str, ...], Form] = {}


def form_for(ranks: Sequence[_C.device]) -> Form:
    """The form of graphs for ranks on these GPUs, tried at the first question for several of them.

    Args:
        ranks: the GPU of each rank; one that several ranks share is there as often.
    """
    key = key_of(ranks)
    if len(set(key)) == 1:
        return Form(True, "")
    if key not in _forms:
        _forms[key] = _choose(ranks, key)
    return _forms[key]


def key_of(ranks: Sequence[_C.device]) -> tuple[str, ...]:
    """Their names."""
    return tuple(str(rank) for rank in ranks)


def _choose(ranks: Sequence[_C.device], names: tuple[str, ...]) -> Form:
    reason = trial(ranks, whole=True)
    if not reason:
        return Form(True, "")
    where = ", ".join(names)
    second = trial(ranks, whole=False)
    if not second:
        _log.warning("one graph a GPU in place of one over %s: %s", where, reason)
        return Form(False, "")
    reason = f"{reason}; one graph a GPU: {second}"
    return Form(True, f"graphs of ranks on {where} do not work here: {reason}")


def trial(ranks: Sequence[_C.device], *, whole: bool) -> str:
    """What goes wrong with a small graph of all-reduces between ranks on these GPUs; "" if
    nothing.
    """
    devices = gpus(ranks)
    work = CUDAGraph(devices, whole=whole)
    try:
        communicator = _C.Communicator(_C.Mesh(list(ranks)), timeout=_SECONDS)
        tensors = [
            _C.ops.full((_COUNT,), float(rank + 1), dtype=_C.float32, device=device)
            for rank, device in enumerate(ranks)
        ]
        with graph(work):
            for _ in range(_CALLS):
                communicator.all_reduce(tensors)
        for _ in range(_REPLAYS):
            work.replay()
        if not _done(devices, 4 * _SECONDS):
            return f"a small graph did not end within {4 * _SECONDS:.0f} s"
        communicator.synchronize()
    except RuntimeError as error:
        return str(error)
    count = len(ranks)
    expected = count * (count + 1) / 2 * count ** (_CALLS * _REPLAYS - 1)
    for rank, tensor in enumerate(tensors):
        if not bool((tensor == expected).all()):
            return f"a small graph left wrong sums on rank {rank}"
    return ""


def _done(devices: list[_C.device], seconds: float) -> bool:
    """Whether all that is queued ends in time; asked without waiting, which would have no end."""
    events = []
    for device in devices:
        event = _C.Event()
        event.record(_C.current_stream(device))
        events.append(event)
    end = time.monotonic() + seconds
    while not all(event.query() for event in events):
        if time.monotonic() > end:
            return False
        time.sleep(0.0002)
    return True
