"""`vibetensor.capture`: a whole training step as a CUDA graph, captured and kept up to date."""

from __future__ import annotations

import functools
import linecache
import logging
import traceback
import types
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

from vibetensor import _C, graph_trial, replay
from vibetensor.fuse import Choice, Report, chosen, recording
from vibetensor.graphs import CUDAGraph, gpus, graph
from vibetensor.host_state import HostRandom, Modes
from vibetensor.structure import key_of, leaves_of, map_placed, map_tensors, place_like

__all__ = ["CapturedStep", "capture"]

Tensor = _C.Tensor

_log = logging.getLogger("vibetensor.capture")
_PACKAGE = str(Path(__file__).resolve().parent)


@overload
def capture(
    step: Callable[..., Any],
    *,
    warmup: int = 2,
    fuse: Choice = False,
    device: _C.device | str | None = None,
    devices: Sequence[_C.device | str] | None = None,
    max_graphs: int = 8,
    strict: bool = False,
) -> CapturedStep: ...
@overload
def capture(
    *,
    warmup: int = 2,
    fuse: Choice = False,
    device: _C.device | str | None = None,
    devices: Sequence[_C.device | str] | None = None,
    max_graphs: int = 8,
    strict: bool = False,
) -> Callable[[Callable[..., Any]], CapturedStep]: ...
def capture(
    step: Callable[..., Any] | None = None,
    *,
    warmup: int = 2,
    fuse: Choice = False,
    device: _C.device | str | None = None,
    devices: Sequence[_C.device | str] | None = None,
    max_graphs: int = 8,
    strict: bool = False,
) -> CapturedStep | Callable[[Callable[..., Any]], CapturedStep]:
    """A step that runs eagerly a few times, is then captured as a CUDA graph, and replayed.

    A replay has the bits of the eager step: random numbers go on, optimizers and schedules stepped
    inside advance, and rates set from outside take effect. What else Python does in the step (a
    print, a counter) happens only when it is captured; `vibetensor.on_replay` names what belongs to
    each step. Where the arguments have other shapes or types than before, the step is captured
    again. What cannot be captured runs eagerly, and the reason is logged once.

    Args:
        step: takes tensors, nested tuples, lists and dicts of them, constants, and objects, as a
            model, of which each has graphs of its own. Tensors on the CPU reach it as tensors on
            the GPU; those that require grad reach it as they are. None makes a decorator,
            `@vibetensor.capture(fuse=True)`, for functions and methods.
        warmup: how many eager calls precede the first capture, at least 1: the first one makes
            what lives on, as an optimizer's state. Later captures, for other shapes, take one.
        fuse: let the step compiler join kernels of the captured step: True, or {name: False} to
            leave passes out, or names for just those (`vibetensor.fuse.passes()`).
        device: the GPU. None: at the first call, the one that tensors among the arguments are on,
            or the current one.
        devices: the GPUs of a step that runs on several, in the place of `device`; tensors on the
            CPU reach the step on the first of them. Work of different GPUs may meet in collectives
            only. A GPU that several ranks of a collective share is named as often as it has ranks.
        max_graphs: how many graphs are kept, for different arguments; the one used longest ago
            goes. They share their memory.
        strict: raise a RuntimeError in place of running eagerly where a capture fails.

    Returns:
        The step. What its replays return is overwritten by the next replay: `clone()` what is to
        stay. Returned tensors have no history for backward.

    Raises:
        ValueError: a count out of range, or a pass that does not exist.
    """
    if step is None:
        options: dict[str, Any] = {
            "warmup": warmup,
            "fuse": fuse,
            "device": device,
            "devices": devices,
            "max_graphs": max_graphs,
            "strict": strict,
        }
        return lambda function: CapturedStep(function, **options)
    return CapturedStep(
        step, warmup=warmup, fuse=fuse, device=device, devices=devices, max_graphs=max_graphs,
        strict=strict,
    )  # fmt: skip


class _Entry:
    """A graph with the tensors it reads and writes."""

    def __init__(self, inputs: list[Tensor], devices: Sequence[_C.device], *, whole: bool) -> None:
        self.inputs = inputs
        self.sender = _C.GraphInputs(inputs)
        self.graph = CUDAGraph(devices, whole=whole)
        self.arguments: Any = None  # what the step was given; keys name some of it by id
        self.outputs: Any = None
        self.placed = _C.PlacedTensors([])  # parameters and buffers, whose addresses it has


class CapturedStep:
    """See `capture`. Not for several threads at once.

    Attributes:
        reason: why the last call ran eagerly; "" if it was a replay.
        captures: how often the step was captured.
        replays: how many calls were replays.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        *,
        warmup: int = 2,
        fuse: Choice = False,
        device: _C.device | str | None = None,
        devices: Sequence[_C.device | str] | None = None,
        max_graphs: int = 8,
        strict: bool = False,
    ) -> None:
        if warmup < 1:
            raise ValueError(f"capture: warmup is {warmup}; a first eager call makes what lives on")
        if max_graphs < 1:
            raise ValueError(f"capture: max_graphs is {max_graphs}, expected at least 1")
        self._step = step
        self._warmup = warmup
        self._fuse = fuse
        if device is not None:
            if devices is not None:
                raise ValueError("capture: give device= or devices=, not both")
            devices = [device]
        self._ranks = None if devices is None else [_C.device(str(each)) for each in devices]
        self._max_graphs = max_graphs
        self._strict = strict
        self._entries: OrderedDict[Any, _Entry] = OrderedDict()
        self._refused: dict[Any, str] = {}
        self._missing: OrderedDict[Any, int] = OrderedDict()
        self._eager_calls = 0
        self._misses = 0
        self._streams: list[_C.Stream] = []
        self._pools: list[_C.MemoryPool] = []
        self._logged: set[str] = set()
        self._report: Report | None = None
        chosen(fuse)  # a wrong name is an error here, not at the first capture
        self._modes = Modes(step)
        self._modes_of: dict[int, tuple[Any, Modes]] = {}  # by id, of objects among arguments
        self._reached: list[Modes] = []  # of this call
        self.reason = ""
        self.captures = 0
        self.replays = 0
        functools.update_wrapper(self, step, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """One step."""
        ranks = self._gpus(args, kwargs)
        if not ranks:
            return self._eager(_C.cuda_unavailable_reason(), args, kwargs)
        device = ranks[0]
        tensors: list[tuple[Tensor, _C.device | None]] = []
        modes = self._modes
        self._reached = [modes]
        given = key_of((args, kwargs), tensors, None, self._modes_within)
        key: Any = (given, _C.is_grad_enabled(), modes.now(), modes.parameters())
        if len(ranks) > 1:
            key = (key, *[tensor.device for tensor, _ in tensors])
        entry = self._entries.get(key)
        if entry is not None:
            reason = self._stale(entry)
            if not reason:
                self._entries.move_to_end(key)
                return self._replay(entry, tensors)
            _log.info("%s: captured again: %s", self._name(), reason)
            entry.graph.settle()
            del self._entries[key]
        reason = self._why_not(key)
        if reason:
            return self._eager(reason, *self._on(device, args, kwargs))
        made = self._capture(key, ranks, tensors, args, kwargs)
        if isinstance(made, str):
            self._refused[key] = made
            return self._eager(made, *self._on(device, args, kwargs))
        return self._replay(made, tensors)

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        """As an attribute of a class: the step of an object, which is its first argument."""
        return self if owner is None else types.MethodType(self, owner)

    # -- deciding ----------------------------------------------------------------------------------

    def _gpus(self, args: Any, kwargs: Any) -> list[_C.device]:
        """The GPU of each rank, the first one's at the front; none where there is no GPU."""
        if self._ranks is None:
            if _C.device_count("cuda") == 0:
                return []
            given = {leaf.device for leaf in leaves_of((args, kwargs)) if isinstance(leaf, Tensor)}
            here = [device for device in given if device.type == "cuda"]
            self._ranks = here if len(here) == 1 else [_C.device(f"cuda:{_C.current_device()}")]
        return self._ranks if all(rank.type == "cuda" for rank in self._ranks) else []

    def _why_not(self, key: Any) -> str:
        if replay.recording() is not None:
            return "part of another capture"
        if key in self._refused:
            return self._refused[key]
        if self._misses >= 4 * self._max_graphs and self._misses > self.replays:
            return (
                "its arguments change with nearly each call; pass changing numbers as tensors, and "
                "pad shapes"
            )
        if self._warm_ups(key) > 0:
            return "warm-up"
        return ""

    def _warm_ups(self, key: Any) -> int:
        """How many eager calls these arguments still need, this one included. One is enough for
        other shapes than the first: it chooses algorithms and fills what modules keep by shape.
        """
        if key not in self._missing:
            self._misses += 1
            if len(self._missing) >= 8 * self._max_graphs:
                self._missing.popitem(last=False)
            self._missing[key] = 1 if self._eager_calls >= self._warmup else self._warmup
        left = self._missing[key]
        self._missing[key] = max(left - 1, 0)
        return left

    def _modes_within(self, value: Any) -> Any:
        """The modes and parameters of the modules that an object among the arguments reaches."""
        known = self._modes_of.get(id(value))
        if known is None:
            if len(self._modes_of) >= 8 * self._max_graphs:
                self._modes_of.clear()
            known = self._modes_of[id(value)] = (value, Modes(value))
        modes = known[1]
        self._reached.append(modes)
        return modes.now(), modes.parameters()

    @staticmethod
    def _stale(entry: _Entry) -> str:
        leaves = entry.graph.leaves
        if not leaves.entry_is_now():
            return "gradients are there that were not when it was captured, or the other way round"
        reason = entry.graph.stale()
        if not reason and entry.placed.moved():
            reason = "memory of parameters or buffers was replaced, as by an optimizer's first step"
        return reason

    def _eager(self, reason: str, args: Any, kwargs: Any) -> Any:
        self._eager_calls += 1
        self.reason = reason
        if reason not in ("warm-up", "part of another capture") and reason not in self._logged:
            self._logged.add(reason)
            _log.warning("%s runs eagerly: %s", self._name(), reason)
        return map_tensors(Tensor.detach, self._step(*args, **kwargs))

    def _name(self) -> str:
        return str(getattr(self._step, "__qualname__", type(self._step).__name__))

    @staticmethod
    def _on(device: _C.device, args: Any, kwargs: Any) -> tuple[Any, Any]:
        def move(tensor: Tensor, to: _C.device) -> Tensor:
            if tensor.requires_grad or tensor.device.type == "cuda":
                return tensor
            return _reachable(tensor).to(to, non_blocking=True)

        return map_placed(move, args, device), map_placed(move, kwargs, device)

    # -- capturing ---------------------------------------------------------------------------------

    def _capture(
        self,
        key: Any,
        ranks: list[_C.device],
        tensors: list[tuple[Tensor, _C.device | None]],
        args: Any,
        kwargs: Any,
    ) -> _Entry | str:
        """A graph of the step, which has had no effect yet; or why there is none."""
        while len(self._entries) >= self._max_graphs:
            self._entries.popitem(last=False)
        form = graph_trial.form_for(ranks)
        if form.problem:
            if self._strict:
                raise RuntimeError(f"capture: {form.problem}")
            return form.problem
        devices = gpus(ranks)
        places_of = [
            place_like(tensor, to or (tensor.device if tensor.device in devices else devices[0]))
            for tensor, to in tensors
        ]
        entry = _Entry(places_of, devices, whole=form.whole)
        places = iter(entry.inputs)

        def place(tensor: Tensor) -> Tensor:
            return tensor if tensor.requires_grad else next(places)

        held, held_named = map_tensors(place, args), map_tensors(place, kwargs)
        if not self._streams:
            self._streams = [_C.Stream(device) for device in devices]
        if not self._pools or not self._entries:
            self._pools = [_C.MemoryPool(device) for device in devices]
        random = HostRandom(self._step)
        versions = [each._version for each in entry.inputs]
        try:
            with graph(entry.graph, self._pools, self._streams), recording(self._fuse) as made:
                outputs = map_tensors(Tensor.detach, self._step(*held, **held_named))
            problem = random.used() or _problem_of(outputs)
            if not problem and versions != [each._version for each in entry.inputs]:
                problem = (
                    "the step changes an argument in place, which replays would do to a copy of "
                    "it; clone it first, or keep the tensor outside of the arguments"
                )
            if not problem and entry.graph.node_count == 0:
                problem = "the step queued no work on the GPU, so a replay would do nothing"
        except Exception as error:
            random.restore()
            if self._strict:
                raise RuntimeError(f"capture: {_where(error)}") from error
            return _where(error)
        entry.graph.leaves.undo()
        if problem:
            random.restore()
            entry.graph.reset()
            if self._strict:
                raise RuntimeError(f"capture: {problem}")
            return problem
        entry.arguments = (held, held_named)
        entry.outputs = outputs
        entry.placed = _C.PlacedTensors([t for modes in self._reached for t in modes.tensors()])
        self._report = made.report
        self._entries[key] = entry
        self.captures += 1
        return entry

    def _replay(self, entry: _Entry, tensors: list[tuple[Tensor, _C.device | None]]) -> Any:
        entry.graph.follow()
        entry.sender.copy([_reachable(tensor) for tensor, _ in tensors])
        entry.graph.run()
        self.reason = ""
        self.replays += 1
        outputs = entry.outputs
        return outputs if isinstance(outputs, Tensor) else map_tensors(lambda t: t, outputs)

    def report(self) -> Report | None:
        """What the step compiler did in the last capture; None where there was none."""
        return self._report

    def reset(self) -> None:
        """Drops all graphs; the next calls warm up and capture again."""
        self._entries.clear()
        self._refused.clear()
        self._missing.clear()
        self._modes_of.clear()
        self._pools = []
        self._eager_calls = self._misses = 0


def _reachable(tensor: Tensor) -> Tensor:
    """The tensor in memory that the GPU copies from by itself: a copy from other memory would wait
    for the step before.
    """
    return tensor if tensor.device.type == "cuda" else tensor.contiguous().pin_memory()


def _problem_of(outputs: Any) -> str:
    """Why replays could not return these; "" if they can."""
    for value in leaves_of(outputs):
        if isinstance(value, Tensor) and value.device.type != "cuda":
            return "the step returns a tensor on the CPU, which replays would not compute"
        if isinstance(value, (int, float, complex)) and not isinstance(value, bool):
            return (
                f"the step returns the number {value!r}, which would be the same at each replay; "
                "return a tensor"
            )
    return ""


def _where(error: BaseException) -> str:
    """The error with the user's line that led to it: the last one outside of this package."""
    line = ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        if not name.startswith(_PACKAGE) or "/examples/" in name:
            text = linecache.getline(name, number).strip()
            line = f"{name}:{number}: `{text}`: "
    return f"{line}{error}"
