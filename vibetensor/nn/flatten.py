"""Flatten: several dimensions become one."""

from __future__ import annotations

from vibetensor import _C
from vibetensor.nn.module import Module


class Flatten(Module):
    """Joins dimensions `start_dim` to `end_dim`, both included."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: _C.Tensor) -> _C.Tensor:
        return _C.ops.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
