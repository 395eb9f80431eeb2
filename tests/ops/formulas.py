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
