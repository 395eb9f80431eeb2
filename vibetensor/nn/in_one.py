"""Modules in a row that one kernel does: a layer and GELU; dropout, a residual sum and a norm.

A module with hooks, a subclass, or one whose forward was replaced is called by itself.
"""

from __future__ import annotations

from typing import Any

from vibetensor import _C
from vibetensor.nn.activation import GELU
from vibetensor.nn.dropout import Dropout
from vibetensor.nn.linear import Linear
from vibetensor.nn.module import Module
from vibetensor.nn.norm import LayerNorm, RMSNorm

Tensor = _C.Tensor


def is_gelu_layer(layer: Any, activation: Any) -> bool:
    """Whether `linear_gelu` computes the one and then the other (GELU in its tanh form)."""
    return (
        type(activation) is GELU
        and activation.approximate == "tanh"
        and _is(activation, GELU)
        and _is(layer, Linear)
    )


def gelu_layer(layer: Linear, input: Tensor) -> Tensor:
    """GELU of the layer of the input, rounded once."""
    return _C.ops.linear_gelu(input, layer.weight, layer.bias)


def add_norm(
    branch: Tensor, stream: Tensor, dropout: Module, norm: Module
) -> tuple[Tensor, Tensor]:
    """Returns (norm(total), total) with `total = stream + dropout(branch)`."""
    # In a region of autocast a 16-bit total stays one, whatever type its norm has.
    narrow = _C.autocasting() and branch.dtype == stream.dtype != _C.float32
    if not narrow and isinstance(dropout, Dropout) and _is(dropout, Dropout):
        p = dropout.p if dropout.training else 0.0
        if isinstance(norm, LayerNorm) and _is(norm, LayerNorm):
            return _C.ops.add_layer_norm(
                branch, stream, norm.normalized_shape, norm.weight, norm.bias, norm.eps, p
            )
        if isinstance(norm, RMSNorm) and _is(norm, RMSNorm):
            return _C.ops.add_rms_norm(
                branch, stream, norm.normalized_shape, norm.weight, norm.eps, p
            )
    total = stream + dropout(branch)
    return norm(total), total


def _is(module: Any, kind: type[Module]) -> bool:
    return type(module) is kind and module._hooks is None and "forward" not in module.__dict__
