"""Rotary position embedding as a module."""

from __future__ import annotations

from vibetensor import _C
from vibetensor.nn.module import Module


class RotaryEmbedding(Module):
    """Turns pairs of features by angles that grow with the token's position (Su et al. 2021).

    Pair i of a token at position p turns by p * base^(-2i / features) radians; pairs are features
    (i, i + features / 2), or (2i, 2i + 1) where `interleaved`. `seq_dim` is the dimension of
    tokens: -2 for [batch, heads, tokens, features], -3 for [batch, tokens, heads, features]. No
    table is kept: angles are computed in the kernel, exact at any position.
    """

    def __init__(self, base: float = 10000.0, seq_dim: int = -2, interleaved: bool = False) -> None:
        super().__init__()
        self.base = base
        self.seq_dim = seq_dim
        self.interleaved = interleaved

    def forward(self, input: _C.Tensor, offset: int = 0) -> _C.Tensor:
        """The turned input, whose first token stands at position `offset`.

        Raises:
            RuntimeError: the number of features is odd, or there is no dimension of tokens.
        """
        return _C.ops.rope(
            input,
            base=self.base,
            seq_dim=self.seq_dim,
            offset=offset,
            interleaved=self.interleaved,
        )

    def extra_repr(self) -> str:
        return f"base={self.base}, seq_dim={self.seq_dim}, interleaved={self.interleaved}"
