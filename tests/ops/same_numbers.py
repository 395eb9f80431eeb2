"""The same numbers on both sides: in float64 for PyTorch, in any type and on any device for us."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as oracle

import vibetensor.torch as torch


def rounded(*sizes: int, dtype: str) -> oracle.Tensor:
    """float64 numbers that `dtype` can hold."""
    return oracle.randn(*sizes, dtype=oracle.float64).to(getattr(oracle, dtype)).double()


def ours(x: oracle.Tensor, device: str, dtype: str, grad: bool = True) -> Any:
    """PyTorch's numbers as a leaf of ours."""
    y = torch.tensor(x.detach().numpy()).to(getattr(torch, dtype)).to(device)
    return y.requires_grad_(grad)


def numbers(x: Any) -> np.ndarray:
    """What one of our tensors holds, in float64."""
    return np.asarray(x.detach().to("cpu").double().numpy())
