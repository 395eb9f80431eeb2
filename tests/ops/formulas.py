"""What PyTorch has no function for, in the words of a user of it; the oracle of those operators."""

from __future__ import annotations

import torch as pt
from torch.nn import functional


def add_layer_norm(x: pt.Tensor, residual: pt.Tensor, shape: list[int]) -> tuple[pt.Tensor, ...]:
    total = x + residual
    return functional.layer_norm(total, shape), total


def add_rms_norm(x: pt.Tensor, residual: pt.Tensor, shape: list[int]) -> tuple[pt.Tensor, ...]:
    total = x + residual
    return functional.rms_norm(total, shape), total


def swiglu(gate: pt.Tensor, up: pt.Tensor) -> pt.Tensor:
    return functional.silu(gate) * up


def geglu(gate: pt.Tensor, up: pt.Tensor, approximate: str = "none") -> pt.Tensor:
    return functional.gelu(gate, approximate=approximate) * up


def rope(
    x: pt.Tensor,
    base: float = 10000.0,
    seq_dim: int = -2,
    offset: int = 0,
    interleaved: bool = False,
) -> pt.Tensor:
    features = x.shape[-1]
    position = offset + pt.arange(x.shape[seq_dim], dtype=pt.float64)
    rate = base ** -(pt.arange(features // 2, dtype=pt.float64) * 2 / features)
    angle = position[:, None] * rate
    shape = [1] * x.dim()
    shape[seq_dim], shape[-1] = angle.shape
    cos, sin = angle.cos().view(shape), angle.sin().view(shape)
    wide = x.double()
    if interleaved:
        u, v = wide[..., 0::2], wide[..., 1::2]
        turned = pt.stack((u * cos - v * sin, v * cos + u * sin), -1).flatten(-2)
    else:
        u, v = wide.chunk(2, -1)
        turned = pt.cat((u * cos - v * sin, v * cos + u * sin), -1)
    return turned.to(x.dtype)


def linear_gelu(input: pt.Tensor, weight: pt.Tensor, bias: pt.Tensor | None = None) -> pt.Tensor:
    return pt.nn.functional.gelu(pt.nn.functional.linear(input, weight, bias), approximate="tanh")
