"""Embedding: a table of vectors, looked up by index."""

from __future__ import annotations

from typing import Any

from vibetensor import _C
from vibetensor.nn import init
from vibetensor.nn.module import Module
from vibetensor.nn.parameter import Parameter


class Embedding(Module):
    """Row `i` of weight for each index `i` of the input.

    Args:
        num_embeddings, embedding_dim: shape of the table.

    Shapes: input `(*)` of int64 or int32, output `(*, embedding_dim)`.
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        device: Any = None,
        dtype: _C.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.weight = Parameter(
            _C.ops.empty(num_embeddings, embedding_dim, device=device, dtype=dtype)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Standard normal."""
        init.normal_(self.weight)

    def forward(self, input: _C.Tensor) -> _C.Tensor:
        return _C.ops.embedding(input, self.weight)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
