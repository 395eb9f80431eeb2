"""Forward hooks, kept out of Module, so that a module without hooks pays nothing for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from vibetensor import replay


class _Hook(NamedTuple):
    function: Callable[..., Any]
    with_kwargs: bool


class HookHandle:
    """Removes the hook it was returned for; also usable as a context manager."""

    def __init__(self, room: dict[int, _Hook], key: int) -> None:
        self._room = room
        self._key = key

    def remove(self) -> None:
        """Takes the hook away; a second call does nothing."""
        self._room.pop(self._key, None)
        replay.module_changed()

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Hooks:
    """The hooks of one module, before and after its forward, in order of call."""

    def __init__(self) -> None:
        self._rooms: dict[str, dict[int, _Hook]] = {"before": {}, "after": {}}
        self._count = 0

    def add(
        self, when: str, function: Callable[..., Any], prepend: bool, with_kwargs: bool
    ) -> HookHandle:
        """Registers `function`, last or (`prepend`) first."""
        room = self._rooms[when]
        key = self._count
        self._count += 1
        others = dict(room) if prepend else {}
        if prepend:
            room.clear()
        room[key] = _Hook(function, with_kwargs)
        room.update(others)
        replay.module_changed()
        return HookHandle(room, key)

    def numbers(self) -> tuple[int, ...]:
        """Of the hooks that are there: each registration has another one."""
        return (*self._rooms["before"], *self._rooms["after"])

    def call(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`module.forward` between its hooks."""
        for hook in list(self._rooms["before"].values()):
            if hook.with_kwargs:
                result = hook.function(module, args, kwargs)
                if result is not None:
                    args, kwargs = result
            else:
                result = hook.function(module, args)
                if result is not None:
                    args = result if isinstance(result, tuple) else (result,)
        output = module.forward(*args, **kwargs)
        for hook in list(self._rooms["after"].values()):
            result = (
                hook.function(module, args, kwargs, output)
                if hook.with_kwargs
                else hook.function(module, args, output)
            )
            if result is not None:
                output = result
        return output
