"""State of Python that a step may depend on without its arguments showing it."""

from __future__ import annotations

import functools
import random
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from vibetensor import _C, replay

_DEPTH = 3
_MOST = 1000  # entries of a container that are looked at: longer ones are data
_LEAVES = (str, bytes, int, float, _C.Tensor, type, type(None), types.ModuleType)


class HostRandom:
    """Notes the random numbers of the host when it is made: a captured step that draws from them
    would see the same ones at each replay.

    Args:
        step: generators of Python's or NumPy's that it reaches count, too.
    """

    def __init__(self, step: Any = None) -> None:
        self._before = self._now()
        found = _reached(step, set(), _DEPTH, _is_generator)
        self._own = [(each, _state_of(each)) for each in found]

    @staticmethod
    def _now() -> tuple[Any, ...]:
        numpy = sys.modules.get("numpy")
        legacy = numpy.random.get_state() if numpy is not None else None
        host = bytes(_C.get_rng_state(_C.device("cpu:0")).tolist())
        return random.getstate(), legacy, host

    def used(self) -> str:
        """Which were drawn from since; "" if none."""
        mine, legacy, host = self._now()
        if mine != self._before[0]:
            return _drawn("Python's random")
        if legacy is not None and not _same_legacy(legacy, self._before[1]):
            return _drawn("numpy.random")
        if host != self._before[2]:
            return _drawn("the CPU's generator")
        if any(repr(_state_of(each)) != repr(state) for each, state in self._own):
            return _drawn("a generator of random numbers on the host")
        return ""

    def restore(self) -> None:
        """Puts them back, so that an eager step draws what the capture did."""
        mine, legacy, host = self._before
        random.setstate(mine)
        if legacy is not None:
            sys.modules["numpy"].random.set_state(legacy)
        state = _C.tensor(list(host), dtype=_C.uint8)
        _C.set_rng_state(_C.device("cpu:0"), state)
        for each, before in self._own:
            if isinstance(each, random.Random):
                each.setstate(before)
            else:
                each.bit_generator.state = before


def _drawn(where: str) -> str:
    return (
        f"the step draws from {where}, which would give the same numbers at each replay; draw on "
        "the GPU"
    )


def _same_legacy(a: Any, b: Any) -> bool:
    return bool(a[0] == b[0] and (a[1] == b[1]).all() and a[2:] == b[2:])


class Modes:
    """Which of a step's modules are in training mode, which dropout and the like depend on, and
    which parameters they have.

    The modules are those found in the step's closure, the globals it names, and the attributes of
    the object that it belongs to; or of another object, as an argument.
    """

    def __init__(self, step: Any) -> None:
        self._step = step
        self._changes = -1
        self._flags: tuple[bool, ...] = ()
        self._parameters: tuple[int, ...] = ()
        self._tops: list[Any] = []

    def now(self) -> tuple[bool, ...]:
        """The mode of each module; the same tuple until some module changes."""
        self._look()
        return self._flags

    def parameters(self) -> tuple[int, ...]:
        """Which objects are the parameters, by id, and which hooks of modules there are; the same
        tuple until some module changes.
        """
        self._look()
        return self._parameters

    def tensors(self) -> list[_C.Tensor]:
        """Parameters and buffers that a graph may have the addresses of."""
        self._look()
        found = [t for top in self._tops for t in (*top.parameters(), *top.buffers())]
        return [t for t in found if isinstance(t, _C.Tensor) and t.device.type == "cuda"]

    def _look(self) -> None:
        changes = replay.module_changes()
        if changes == self._changes:
            return
        seen: set[int] = set()
        self._tops = list(_reached(self._step, seen, _DEPTH, _is_module))
        modules = [each for top in self._tops for each in top.modules()]
        self._flags = tuple(bool(each.training) for each in modules)
        found = [id(p) for top in self._tops for p in top.parameters()]
        for each in modules:
            hooks = getattr(each, "_hooks", None)
            if hooks is not None:
                found += [id(each), *hooks.numbers()]
        self._parameters = tuple(found)
        self._changes = changes


def _is_module(value: Any) -> bool:
    return callable(getattr(value, "modules", None)) and hasattr(value, "training")


def _is_generator(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    kinds = (random.Random,) if numpy is None else (random.Random, numpy.random.Generator)
    return isinstance(value, kinds)


def _state_of(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state


def _reached(
    value: Any, seen: set[int], depth: int, wanted: Callable[[Any], bool]
) -> Iterator[Any]:
    if id(value) in seen or isinstance(value, _LEAVES):
        return
    seen.add(id(value))
    if wanted(value):
        yield value
    elif depth > 0:
        for each in _within(value):
            yield from _reached(each, seen, depth - 1, wanted)


def _within(value: Any) -> list[Any]:
    """What a function or an object can reach by one name."""
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        names = [value.__globals__[n] for n in value.__code__.co_names if n in value.__globals__]
        return [*cells, *names]
    if isinstance(value, (list, tuple)):
        return list(value) if len(value) <= _MOST else []
    inside = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return list(inside.values()) if len(inside) <= _MOST else []


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (an empty cell raises)
    except ValueError:
        return False
    return True
