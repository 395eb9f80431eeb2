"""Decorators that say how a custom `autograd.Function` behaves in a region of autocast."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from vibetensor import _C
from vibetensor.amp.region import autocast, get_autocast_dtype, is_autocast_enabled

Method = Callable[..., Any]


def custom_fwd(
    fwd: Method | None = None, *, device_type: str, cast_inputs: _C.dtype | None = None
) -> Any:
    """Decorates the static `forward` of a Function, so that `custom_bwd` knows its region.

    Args:
        device_type: "cpu" or "cuda".
        cast_inputs: in a region, arguments (also inside lists, tuples and dicts) that autocast
            could cast are cast to this type and forward runs without autocast; None runs it as it
            is called. Outside of a region nothing happens.
    """
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        enabled = is_autocast_enabled(device_type)
        ctx._autocast_dtype = get_autocast_dtype(device_type)
        ctx._autocast_enabled = enabled and cast_inputs is None
        if not enabled or cast_inputs is None:
            return fwd(ctx, *args, **kwargs)
        with autocast(device_type, enabled=False):
            return fwd(
                ctx,
                *_cast(args, device_type, cast_inputs),
                **_cast(kwargs, device_type, cast_inputs),
            )

    return forward


def custom_bwd(bwd: Method | None = None, *, device_type: str) -> Any:
    """Decorates the static `backward` of a Function: it runs as its forward did."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def backward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, ctx._autocast_dtype, ctx._autocast_enabled):
            return bwd(ctx, *args, **kwargs)

    return backward


def _cast(value: Any, device_type: str, dtype: _C.dtype) -> Any:
    if isinstance(value, _C.Tensor):
        castable = value.is_floating_point() and value.dtype != _C.float64
        return value.to(dtype) if castable and value.device.type == device_type else value
    if isinstance(value, Mapping):
        return {key: _cast(each, device_type, dtype) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(each, device_type, dtype) for each in value)
    return value
