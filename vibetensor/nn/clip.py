"""Limits on gradients, from all parameters together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from vibetensor import _C
from vibetensor.autograd import no_grad

Tensor = _C.Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "get_total_norm"]


def get_total_norm(
    tensors: Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """The norm of all tensors as if they were one vector: a 0-d tensor.

    Raises:
        RuntimeError: `error_if_nonfinite` and the norm is nan or infinite.
    """
    with no_grad():
        found = list(tensors)
        if not found:
            return _C.tensor(0.0)
        device = found[0].device
        if norm_type == math.inf:
            parts = [tensor.abs().max().to(device) for tensor in found]
            total = _C.ops.stack(parts).max()
        elif norm_type == 2.0:
            parts = [_C.ops.norm_list(group).to(device) for group in _groups(found)]
            total = parts[0] if len(parts) == 1 else _C.ops.norm_list(parts)
        else:
            parts = [tensor.float().abs().pow(norm_type).sum().to(device) for tensor in found]
            total = _C.ops.stack(parts).sum().pow(1.0 / norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients is non-finite ({total.item()}), so "
            "it cannot be clipped. To scale by it anyway, set `error_if_nonfinite=False`"
        )
    return total


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scales all gradients in place so that their joint norm is at most `max_norm`.

    Returns the norm before scaling, a 0-d tensor; nothing waits for the device.
    """
    grads = _grads(parameters)
    if grads and isinstance(grads[0], _C.FabricTensor):
        return _clip_on_fabric(grads, max_norm, norm_type, error_if_nonfinite)
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    with no_grad():
        for group in _groups(grads):
            wide = _C.float64 if group[0].dtype == _C.float64 else _C.float32
            dense = [grad.contiguous() for grad in group]
            _C.ops.clip_list_(dense, total.to(group[0].device).to(wide), max_norm)
            for grad, scaled in zip(group, dense, strict=True):
                if not grad.is_contiguous():
                    grad.copy_(scaled)
    return total


def _clip_on_fabric(
    grads: list[Any], max_norm: float, norm_type: float, error_if_nonfinite: bool
) -> Tensor:
    """The same for fabric tensors, whose norm is that of the whole tensors."""
    if norm_type != 2.0:
        raise NotImplementedError(
            f"clip_grad_norm_: fabric tensors are clipped by their 2-norm, got {norm_type}"
        )
    with no_grad():
        norms: Any = [grad.norm().float() for grad in grads]
        total = _C.ops.stack(norms).norm()
        if error_if_nonfinite and not math.isfinite(total.item()):
            raise RuntimeError(
                f"The total norm for gradients is non-finite ({total.item()}), so it cannot be "
                "clipped. To scale by it anyway, set `error_if_nonfinite=False`"
            )
        factor: Any = (max_norm / (total + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad.mul_(factor.to(grad.dtype))
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clamps every element of every gradient to [-clip_value, clip_value] in place."""
    with no_grad():
        for grad in _grads(parameters):
            grad.copy_(grad.clamp(-clip_value, clip_value))


def _grads(parameters: Tensor | Iterable[Tensor]) -> list[Any]:
    params = [parameters] if isinstance(parameters, Tensor) else parameters
    return [param.grad for param in params if param.grad is not None]


def _groups(tensors: list[Tensor]) -> list[list[Tensor]]:
    """Tensors of one device and type each, for one launch a group."""
    groups: dict[tuple[str, str], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((str(tensor.device), str(tensor.dtype)), []).append(tensor)
    return list(groups.values())
