"""Between vibetensor and PyTorch, which is the oracle of these tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as pt

import vibetensor.torch as vt


def to_vt(tensor: pt.Tensor, requires_grad: bool = False) -> Any:
    made = vt.from_numpy(tensor.detach().numpy().copy())
    made.requires_grad = requires_grad
    return made


def to_pt(tensor: Any) -> pt.Tensor:
    return pt.from_numpy(np.array(tensor.detach().cpu().numpy()))


def copy_weights(source: pt.nn.Module, target: Any) -> None:
    """Both modules have the same names; every value of `source` goes to `target`."""
    target.load_state_dict({name: to_vt(value) for name, value in source.state_dict().items()})


def assert_close(ours: Any, theirs: pt.Tensor, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    pt.testing.assert_close(to_pt(ours), theirs.detach(), rtol=rtol, atol=atol)
