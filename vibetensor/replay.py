"""What the host does at every replay of a captured graph.

While a graph is captured, host work that belongs to the step (an optimizer's count of updates, a
schedule) is not done but noted here; each replay does it first, in order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from vibetensor import _C

__all__ = ["HostAction", "StaleGraphError", "on_replay", "recording"]


class StaleGraphError(RuntimeError):
    """A graph refers to memory or options that were replaced since it was captured."""


class HostAction(Protocol):
    """Host work of a captured step."""

    def check(self) -> str:
        """Why a replay would not do what the step does now; "" if it does."""

    def run(self, graph: _C.Graph) -> None:
        """Does the work, and gives the graph the numbers that follow from it."""

    def settle(self) -> None:
        """Prepares what the action belongs to for another capture."""


class _Call:
    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def check(self) -> str:
        return ""

    def run(self, graph: _C.Graph) -> None:
        self._function()

    def settle(self) -> None:
        pass


class Recording:
    """The host actions of one graph, in the order of the step."""

    def __init__(self, graph: _C.Graph) -> None:
        self.graph = graph
        self.actions: list[HostAction] = []

    def stale(self) -> str:
        """Why the graph is not the step any more; "" if it is."""
        for action in self.actions:
            reason = action.check()
            if reason:
                return reason
        return ""

    def settle(self) -> None:
        """Makes a capture of the same step possible after something was replaced."""
        for action in self.actions:
            action.settle()

    def run(self) -> None:
        """Does what one step does on the host."""
        graph = self.graph
        for action in self.actions:
            action.run(graph)


class _Now(threading.local):
    recording: Recording | None = None


_now = _Now()
_module_changes = 0


def module_changed() -> None:
    """Some module went into training mode, or out of it, or was given a parameter or a module."""
    global _module_changes
    _module_changes += 1


def module_changes() -> int:
    """How often that happened in this process."""
    return _module_changes


def recording() -> Recording | None:
    """The graph that this thread captures, if any."""
    return _now.recording


def set_recording(value: Recording | None) -> None:
    """Starts or ends noting the host actions of this thread."""
    _now.recording = value


def refuse_seeds(what: str) -> None:
    """Before random numbers are set: replays would go on with those that follow, an eager step
    would start again.

    Raises:
        RuntimeError: this thread captures a graph.
    """
    if _now.recording is not None:
        raise RuntimeError(
            f"{what}: cannot be captured: replays would go on with the numbers that follow; set "
            "them before the step"
        )


def on_replay(function: Callable[[], object]) -> None:
    """Calls a function as part of a step: at once in an eager one, at each replay of one captured.

    Whatever else Python does within a captured step happens once, when it is captured. Replays call
    the function before the GPU's work is queued, so it must not read what the step computes.
    """
    now = _now.recording
    if now is None:
        function()
    else:
        now.actions.append(_Call(function))
