"""Backward passes: into the leaves of a graph, or to chosen tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vibetensor import _C

Tensor = _C.Tensor


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
    if outputs and isinstance(outputs[0], _C.FabricTensor):
        _C.fabric_backward(outputs, grads, retain, create_graph)
    else:
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
    run: Any = _C.fabric_grad if outs and isinstance(outs[0], _C.FabricTensor) else _C.grad
    found = run(outs, _sequence(inputs), grads, retain, create_graph, bool(allow_unused))
    return tuple(found)


def _sequence(tensors: Tensor | Sequence[Tensor]) -> list[Any]:
    return [tensors] if isinstance(tensors, (Tensor, _C.FabricTensor)) else list(tensors)


def _gradients(op: str, outputs: list[Any], given: Any) -> list[Any]:
    if given is None:
        return [None] * len(outputs)
    grads = _sequence(given)
    if len(grads) != len(outputs):
        raise RuntimeError(
            f"{op}: got {len(outputs)} tensors and {len(grads)} gradients; give one for each"
        )
    return grads
