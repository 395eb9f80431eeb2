"""MultiheadAttention: torch's module over scaled_dot_product_attention."""

from __future__ import annotations

import math
from typing import Any

from vibetensor import _C
from vibetensor.nn import init
from vibetensor.nn.linear import Linear
from vibetensor.nn.module import Module
from vibetensor.nn.parameter import Parameter

Tensor = _C.Tensor


class MultiheadAttention(Module):
    """Attention with `num_heads` heads over queries, keys and values of width `embed_dim`.

    Args:
        dropout: probability of dropping an attention weight while training.
        batch_first: inputs are `(batch, length, embed_dim)`; else `(length, batch, embed_dim)`.

    The names in the state dict are torch's: in_proj_weight, in_proj_bias, out_proj.*.
    """

    in_proj_bias: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        device: Any = None,
        dtype: _C.dtype | None = None,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim {embed_dim} is not divisible by {num_heads} heads"
            )
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        make = {"device": device, "dtype": dtype}
        self.in_proj_weight = Parameter(_C.ops.empty(3 * embed_dim, embed_dim, **make))
        self.register_parameter(
            "in_proj_bias", Parameter(_C.ops.empty(3 * embed_dim, **make)) if bias else None
        )
        self.out_proj = Linear(embed_dim, embed_dim, bias, **make)
        init.xavier_uniform_(self.in_proj_weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the output and, if `need_weights`, the weights averaged over the heads.

        A boolean `attn_mask` is True where attention is not allowed; a float one is added.
        """
        if not self.batch_first:
            same = query is key and key is value
            query = query.transpose(0, 1)
            key, value = (query, query) if same else (key.transpose(0, 1), value.transpose(0, 1))
        batch, length = query.shape[0], query.shape[1]
        q, k, v = self._project(query, key, value)  # (batch, heads, length, head_dim) each
        if attn_mask is not None and attn_mask.dtype == _C.bool:
            attn_mask = attn_mask.logical_not()
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.reshape(batch, self.num_heads, length, key.shape[1])
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            attention = _weights(q, k, attn_mask)
            out = _C.ops.dropout(attention, dropout, self.training).matmul(v)
            weights = attention.mean(1)
        else:
            out = _C.ops.scaled_dot_product_attention(
                q, k, v, attn_mask, dropout, is_causal and attn_mask is None
            )
        out = self.out_proj(out.transpose(1, 2).reshape(batch, length, self.embed_dim))
        return (out if self.batch_first else out.transpose(0, 1)), weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is key and key is value:  # one product, whose chunks attention reads in place
            projected = list(_C.ops.linear(query, weight, bias).chunk(3, -1))
        else:
            biases = (None,) * 3 if bias is None else bias.chunk(3)
            projected = [
                _C.ops.linear(x, w, b)
                for x, w, b in zip((query, key, value), weight.chunk(3), biases, strict=True)
            ]
        heads, width = self.num_heads, self.embed_dim // self.num_heads
        return [x.unflatten(-1, (heads, width)).transpose(1, 2) for x in projected]


def _weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)), masked: (batch, heads, queries, keys)."""
    scores = q.matmul(k.transpose(-2, -1)) * (1 / math.sqrt(q.shape[-1]))
    if mask is not None:
        scores = (
            scores.masked_fill(mask.logical_not(), -math.inf)
            if mask.dtype == _C.bool
            else (scores + mask)
        )
    return _C.ops.softmax(scores, -1)
