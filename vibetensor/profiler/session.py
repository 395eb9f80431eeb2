"""The profile itself: when it records, and what comes of it."""

from __future__ import annotations

import enum
import gzip
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from vibetensor import _C
from vibetensor.profiler import averages, chrome, events

F = TypeVar("F", bound=Callable[..., Any])


class ProfilerActivity(enum.Enum):
    """What is watched: operations on the host, or kernels and copies of the GPUs."""

    CPU = "cpu"
    CUDA = "cuda"


class ProfilerAction(enum.Enum):
    """What a profile does in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def supported_activities() -> set[ProfilerActivity]:
    """What can be watched on this machine."""
    found = {ProfilerActivity.CPU}
    if _C.device_count("cuda") > 0:
        found.add(ProfilerActivity.CUDA)
    return found


def schedule(
    *,
    wait: int,
    warmup: int,
    active: int,
    repeat: int = 0,
    skip_first: int = 0,
    skip_first_wait: int = 0,
) -> Callable[[int], ProfilerAction]:
    """Waits, warms up (records and drops) and records, in turns of that many steps.

    Args:
        repeat: how many turns; 0 for no end.
        skip_first: steps before the first turn.
        skip_first_wait: not 0: the first turn does not wait.

    Raises:
        ValueError: `active` is not above 0, or a number is negative.
    """
    if active < 1 or min(wait, warmup, repeat, skip_first, skip_first_wait) < 0:
        raise ValueError(
            "schedule: expected active of at least 1 and no negative number, got "
            f"wait={wait}, warmup={warmup}, active={active}, repeat={repeat}, "
            f"skip_first={skip_first}, skip_first_wait={skip_first_wait}"
        )
    turn = wait + warmup + active

    def action(step: int) -> ProfilerAction:
        if step < skip_first:
            return ProfilerAction.NONE
        at = step - skip_first + (wait if skip_first_wait else 0)
        if repeat and at >= repeat * turn:
            return ProfilerAction.NONE
        at %= turn
        if at < wait:
            return ProfilerAction.NONE
        if at < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if at < turn - 1 else ProfilerAction.RECORD_AND_SAVE

    return action


_NO_FRAME = str.maketrans(" ;\t\n", "____")


def tensorboard_trace_handler(
    dir_name: str | PathLike[str], worker_name: str | None = None, use_gzip: bool = False
) -> Callable[[profile], None]:
    """For `on_trace_ready`: writes each recording to a file of its own in a folder.

    Args:
        dir_name: the folder, made where it is missing; TensorBoard's plugin reads it.
        worker_name: the first part of the files' names; host and process if None.
        use_gzip: compress them.
    """
    worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
    ending = ".pt.trace.json" + (".gz" if use_gzip else "")

    def handler(prof: profile) -> None:
        folder = Path(dir_name)
        folder.mkdir(parents=True, exist_ok=True)
        prof.export_chrome_trace(folder / f"{worker}.{time.time_ns()}{ending}")

    return handler


class record_function:
    """A named range, as a block or around a function: `with record_function("loss"): ...`.

    Args:
        name: of the range.
        args: more text behind the name.
    """

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name = name if args is None else f"{name}: {args}"
        self._tokens: list[int] = []

    def __enter__(self) -> record_function:
        self._tokens.append(_C.profiler_open(self.name))
        return self

    def __exit__(self, *_: object) -> None:
        if token := self._tokens.pop():
            _C.profiler_close(token)

    def __call__(self, function: F) -> F:
        """The function within a range of that name."""
        import functools

        @functools.wraps(function)
        def named(*args: Any, **kwargs: Any) -> Any:
            with record_function(self.name):
                return function(*args, **kwargs)

        return named  # type: ignore[return-value]


class profile:
    """Records what happens in a block, or in the steps that a schedule picks.

    Args:
        activities: what to watch; None means all that this machine has.
        schedule: from the number of a step to what to do in it; call `step()` after each. Without
            one everything is recorded.
        on_trace_ready: called with the profile when a recording is complete.
        record_shapes: the shapes of the inputs of operations.
        profile_memory: what operations take and give back, in bytes.
        with_stack: the Python stack of each operation; slow.

    Raises:
        RuntimeError: on the start, if another profile runs, or GPUs are to be watched and cannot
            be: there is none, or NVIDIA's CUPTI is not installed.
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[[profile], Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
    ) -> None:
        self.activities = set(supported_activities() if activities is None else activities)
        if not self.activities:
            raise ValueError("profile: expected at least one activity")
        self.step_num = 0
        self._schedule = schedule
        self._on_trace_ready = on_trace_ready
        self._options = (record_shapes, profile_memory, with_stack)
        self._action = ProfilerAction.NONE
        self._step: record_function | None = None
        self._metadata: dict[str, Any] = {}
        self._recording: dict[str, Any] | None = None
        self._events: list[events.ProfilerEvent] | None = None

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begins with step 0."""
        self._enter(self._action_of(self.step_num))

    def stop(self) -> None:
        """Ends; what is being recorded is complete."""
        complete = self._action in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
        self._leave(keep=complete)
        self._action = ProfilerAction.NONE

    def step(self) -> None:
        """Ends a step and begins the next."""
        before = self._action
        self.step_num += 1
        after = self._action_of(self.step_num)
        ends = before is ProfilerAction.RECORD_AND_SAVE
        recording = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
        if before in recording and after in recording and not ends:
            self._action = after
            self._close_step()
            self._open_step()
        elif before is after is ProfilerAction.WARMUP:
            pass
        else:
            self._leave(keep=before in recording)
            self._enter(after)

    def events(self) -> list[events.ProfilerEvent]:
        """Every event of the last recording, in order of their start.

        Raises:
            RuntimeError: nothing was recorded.
        """
        if self._events is None:
            found = events.build(self._last())
            if ProfilerActivity.CPU not in self.activities:
                found = [e for e in found if e.device is not None]
            self._events = found
        return self._events

    def key_averages(
        self, group_by_input_shape: bool = False, group_by_stack_n: int = 0
    ) -> averages.EventList:
        """The events of each name taken together.

        Args:
            group_by_input_shape: a row for each list of shapes, where `record_shapes` asked for
                them.
            group_by_stack_n: a row for each different stack of that many frames, where
                `with_stack` asked for them.

        Raises:
            RuntimeError: nothing was recorded.
        """
        return averages.average(self.events(), group_by_input_shape, group_by_stack_n)

    def add_metadata(self, key: str, value: str) -> None:
        """Adds a text to the traces that are written from now on."""
        self._metadata[key] = value

    def add_metadata_json(self, key: str, value: str) -> None:
        """Adds what a JSON text says to the traces that are written from now on.

        Raises:
            ValueError: it is not JSON.
        """
        self._metadata[key] = json.loads(value)

    def export_stacks(self, path: str | PathLike[str], metric: str = "self_cpu_time_total") -> None:
        """Writes each stack with its microseconds, as flame graph tools read them.

        Args:
            path: of the file: a line a stack, "outermost;...;innermost number".
            metric: "self_cpu_time_total" or "self_cuda_time_total".

        Raises:
            ValueError: there is no such metric.
            RuntimeError: nothing was recorded, or without `with_stack=True`.
        """
        names = ("self_cpu_time_total", "self_cuda_time_total", "self_device_time_total")
        if metric not in names:
            raise ValueError(f"export_stacks: expected one of {', '.join(names)}, got {metric!r}")
        rows = [event for event in self.events() if event.stack]
        if not rows:
            raise RuntimeError("export_stacks: no stacks were recorded; profile(with_stack=True)")
        times: dict[str, float] = {}
        for event in rows:
            frames = [frame.translate(_NO_FRAME) for frame in reversed(event.stack)]
            line = ";".join([*frames, event.name.translate(_NO_FRAME)])
            spent = getattr(event, metric.replace("cuda", "device"))
            times[line] = times.get(line, 0.0) + spent
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{line} {int(us)}\n" for line, us in times.items() if int(us) > 0)

    def export_chrome_trace(self, path: str | PathLike[str]) -> None:
        """Writes the last recording as a trace for ui.perfetto.dev and chrome://tracing.

        Args:
            path: of the file; compressed if it ends with ".gz".

        Raises:
            RuntimeError: nothing was recorded.
        """
        recording = self._last()
        indices = sorted({raw["device"] for raw in recording["gpu"]})
        gpus = {i: _C.device_properties(_C.device("cuda", i)).name for i in indices}
        found = {**chrome.trace(recording, gpus), **self._metadata}
        name = Path(path)
        with gzip.open(name, "wt") if name.suffix == ".gz" else open(name, "w") as file:
            json.dump(found, file)

    def _last(self) -> dict[str, Any]:
        if self._recording is None:
            raise RuntimeError(
                "profile: nothing was recorded yet; ask after the block, and with a schedule "
                "after enough calls of step()"
            )
        return self._recording

    def _action_of(self, step: int) -> ProfilerAction:
        return ProfilerAction.RECORD if self._schedule is None else self._schedule(step)

    def _enter(self, action: ProfilerAction) -> None:
        if action is not ProfilerAction.NONE:
            shapes, memory, stack = self._options
            _C.profiler_start(
                ProfilerActivity.CPU in self.activities,
                ProfilerActivity.CUDA in self.activities,
                shapes,
                memory,
                stack,
            )
        self._action = action
        self._open_step()

    def _leave(self, keep: bool) -> None:
        self._close_step()
        if self._action is ProfilerAction.NONE:
            return
        recording = _C.profiler_stop()
        self._action = ProfilerAction.NONE
        if keep and recording["dropped"]:
            warnings.warn(
                f"profile: {recording['dropped']} kernels and copies are missing, the tracer had "
                "no room for them; record fewer steps",
                RuntimeWarning,
                stacklevel=3,
            )
        if keep:
            self._recording, self._events = recording, None
            if self._on_trace_ready is not None:
                self._on_trace_ready(self)

    def _open_step(self) -> None:
        if self._schedule is not None and self._action is not ProfilerAction.NONE:
            self._step = record_function(f"ProfilerStep#{self.step_num}")
            self._step.__enter__()

    def _close_step(self) -> None:
        if self._step is not None:
            self._step.__exit__()
            self._step = None
