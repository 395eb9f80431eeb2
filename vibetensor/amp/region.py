"""autocast: a region whose operators run in the type that suits each of them, and its switches."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from vibetensor import _C

F = TypeVar("F", bound=Callable[..., Any])

_LOWER = (_C.bfloat16, _C.float16)


class autocast:
    """Operators inside cast their inputs, as a context manager or a decorator.

    Matrix products, convolutions and attention run in `dtype`; what loses too much there, as
    losses (and on GPUs exponentials, norms and sums), in float32; the rest in the type that it is
    given. The lists and the state of GPUs hold for a call with a tensor on one, those of the CPU
    for others, and only tensors of that kind of device are cast; float64 and integers never are.
    Regions nest, and one with `enabled=False` turns the casts off inside another one of the same
    device type. The state belongs to the calling thread. Backward runs in the types of its forward.

    Args:
        device_type: "cpu" or "cuda", without an index.
        dtype: bfloat16 or float16; None is bfloat16 on the CPU and float16 on GPUs, or what
            `set_autocast_dtype` said.
        enabled: whether it does anything.
        cache_enabled: whether a float32 parameter is cast only once until the outermost region
            ends; None leaves that as it is.

    Raises:
        ValueError: device_type is no string.
        RuntimeError: another kind of device.
    """

    def __init__(
        self,
        device_type: str,
        dtype: _C.dtype | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        self.device = device_type
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else dtype
        self._cache_enabled = cache_enabled
        self._enabled = bool(enabled) and self._works()
        self._before: list[tuple[bool, _C.dtype, bool]] = []

    def _works(self) -> bool:
        if self.device == "cuda" and not _has_gpu():
            warnings.warn(
                "autocast: there is no GPU, so autocast('cuda') does nothing", stacklevel=3
            )
            return False
        if self.fast_dtype not in _LOWER:
            warnings.warn(
                f"autocast: {self.fast_dtype} is not supported, so this region casts nothing; use "
                "bfloat16 or float16",
                stacklevel=3,
            )
            return False
        return True

    def __enter__(self) -> autocast:
        caches = _C.is_autocast_cache_enabled()
        self._before.append((*_C.autocast_mode(self.device), caches))
        _C.set_autocast_mode(self.device, self._enabled, self.fast_dtype)
        if self._cache_enabled is not None:
            _C.set_autocast_cache_enabled(self._cache_enabled)
        _C.enter_autocast_region()
        return self

    def __exit__(self, *_: object) -> None:
        enabled, dtype, caches = self._before.pop()
        _C.leave_autocast_region()
        _C.set_autocast_mode(self.device, enabled, dtype)
        _C.set_autocast_cache_enabled(caches)

    def __call__(self, function: F) -> F:
        if not callable(function):
            raise TypeError(
                f"autocast: expected a function to decorate, not {type(function).__name__}; as a "
                "context manager it is `with torch.autocast(device_type):`"
            )

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]

    def _again(self) -> autocast:
        """The same region for one call: threads may run a decorated function side by side."""
        other = autocast.__new__(autocast)
        other.__dict__.update(self.__dict__, _before=[])
        return other


def is_autocast_available(device_type: str) -> bool:
    """Whether `autocast` knows the kind of device."""
    return device_type in ("cpu", "cuda")


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether it is on in this thread for a kind of device."""
    return _C.autocast_mode(_checked(device_type))[0]


def get_autocast_dtype(device_type: str) -> _C.dtype:
    """What this thread's regions of a kind of device cast to where they do not say."""
    return _C.autocast_mode(_checked(device_type))[1]


def set_autocast_enabled(device_type: str, enabled: bool) -> None:
    """Turns it on or off in this thread. No parameter is cast once only outside of a region."""
    _C.set_autocast_mode(_checked(device_type), enabled, get_autocast_dtype(device_type))


def set_autocast_dtype(device_type: str, dtype: _C.dtype) -> None:
    """Sets what this thread's regions cast to where they do not say."""
    _C.set_autocast_mode(_checked(device_type), is_autocast_enabled(device_type), dtype)


def _checked(device_type: Any) -> str:
    if not isinstance(device_type, str):
        raise ValueError(f"autocast: device_type is a str, not {type(device_type).__name__}")
    return device_type


def _has_gpu() -> bool:
    return _C.device_count("cuda") > 0
