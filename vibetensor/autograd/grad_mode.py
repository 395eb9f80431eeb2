"""The modes that turn recording on and off, as context managers and decorators."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from vibetensor import _C

F = TypeVar("F", bound=Callable[..., Any])


class _GradMode:
    """A recording mode, as a context manager (may be entered again) or as a decorator."""

    _mode: bool

    def __init__(self) -> None:
        self._previous: list[bool] = []

    def __enter__(self) -> None:
        self._previous.append(_C.set_grad_enabled(self._mode))

    def __exit__(self, *_: object) -> None:
        _C.set_grad_enabled(self._previous.pop())

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            previous = _C.set_grad_enabled(self._mode)
            try:
                return function(*args, **kwargs)
            finally:
                _C.set_grad_enabled(previous)

        return wrapped  # type: ignore[return-value]


class _PlainMode(_GradMode):
    """A mode without arguments: `@no_grad` decorates as `@no_grad()` does."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = super().__new__(cls)
        if function is None:
            return self
        _GradMode.__init__(self)
        return self(function)


class no_grad(_PlainMode):
    """Nothing that runs inside is recorded for backward."""

    _mode = False


class enable_grad(_PlainMode):
    """What runs inside is recorded for backward, also within `no_grad`."""

    _mode = True


class inference_mode(_GradMode):
    """As `no_grad`; `inference_mode(False)` changes nothing."""

    _mode = False

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self._mode = False if mode else _C.is_grad_enabled()


class set_grad_enabled(_GradMode):
    """Sets recording at once; as a context manager, until the block ends."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self._mode = bool(mode)
        self._before = _C.set_grad_enabled(self._mode)

    def __enter__(self) -> None:
        self._previous.append(self._before)

    def __call__(self, function: F) -> F:
        _C.set_grad_enabled(self._before)
        return super().__call__(function)
