"""Gradients from Python: backward, grad, and the modes that turn recording on and off."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from vibetensor import _C

Tensor = _C.Tensor
F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "backward",
    "enable_grad",
    "grad",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]

is_grad_enabled = _C.is_grad_enabled


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


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Adds the gradient of `tensors` to the `grad` of every leaf that they depend on.

    Args:
        tensors: one tensor or several, each that requires grad.
        grad_tensors: the gradient of each, of its shape; may be None for a tensor with one element.
        retain_graph: keep what the graph saved, to go through it again. Default: `create_graph`.
        create_graph: record the backward pass, so that it can be differentiated.

    Raises:
        RuntimeError: a tensor does not require grad, is no scalar and has no gradient given, or
            the graph was freed by an earlier pass.
    """
    outputs = _sequence(tensors)
    grads = _gradients("backward", outputs, grad_tensors)
    retain = create_graph if retain_graph is None else retain_graph
    _C.backward(outputs, grads, retain, create_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
) -> tuple[Tensor, ...]:
    """The gradients of `outputs` with respect to `inputs`; no `grad` attribute changes.

    Args and errors as in `backward`; an input that the outputs do not depend on is an error unless
    `allow_unused`, which gives None for it.
    """
    outs = _sequence(outputs)
    grads = _gradients("grad", outs, grad_outputs)
    retain = create_graph if retain_graph is None else retain_graph
    found = _C.grad(outs, _sequence(inputs), grads, retain, create_graph, bool(allow_unused))
    return tuple(found)


def _sequence(tensors: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _gradients(
    op: str, outputs: list[Tensor], given: Tensor | Sequence[Tensor | None] | None
) -> list[Tensor | None]:
    if given is None:
        return [None] * len(outputs)
    grads: list[Tensor | None] = [given] if isinstance(given, Tensor) else list(given)
    if len(grads) != len(outputs):
        raise RuntimeError(
            f"{op}: got {len(outputs)} tensors and {len(grads)} gradients; give one for each"
        )
    return grads
