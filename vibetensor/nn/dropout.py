"""Dropout: zeroes elements at random while training and scales up the rest."""

from __future__ import annotations

from vibetensor import _C
from vibetensor.nn.module import Module


class Dropout(Module):
    """While training, zeroes each element with probability p and scales the rest by 1 / (1 - p)."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p

    def forward(self, input: _C.Tensor) -> _C.Tensor:
        return _C.ops.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
