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
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the output and, if `need_weights`, the weights, averaged over the heads or not.

        A boolean mask is True where attention is not allowed; a float one is added.

        Args:
            query: `(batch, length, embed_dim)`, or `(length, batch, embed_dim)`.
            key, value: the same with a length of their own.
            key_padding_mask: `(batch, key length)`.
            need_weights: False is faster: the weights are not stored.
            attn_mask: `(length, key length)`, or `(batch * heads, length, key length)`.
            average_attn_weights: False: weights of each head, `(batch, heads, length, key length)`.
            is_causal: without an `attn_mask`: no position sees later ones. With one, that decides.
        """
        if not self.batch_first:
            same = query is key and key is value
            query = query.transpose(0, 1)
            key, value = (query, query) if same else (key.transpose(0, 1), value.transpose(0, 1))
        batch, length = query.shape[0], query.shape[1]
        q, k, v = self._project(query, key, value)  # (batch, heads, length, head_dim) each
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.reshape(batch, self.num_heads, length, key.shape[1])
        causal = is_causal and attn_mask is None
        if causal and (need_weights or key_padding_mask is not None):
            shape = (length, key.shape[1])
            attn_mask = _C.ops.ones(shape, dtype=_C.bool, device=query.device).triu(1)
            causal = False
        mask = _joined(attn_mask, key_padding_mask, q.dtype)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            attention = _weights(q, k, mask)
            out = _C.ops.dropout(attention, dropout, self.training).matmul(v)
            weights = attention.mean(1) if average_attn_weights else attention
        else:
            out = _C.ops.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
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


def _joined(mask: Tensor | None, padding: Tensor | None, dtype: _C.dtype) -> Tensor | None:
    """Both masks as `scaled_dot_product_attention` takes one: True where attention is allowed, or
    what is added.
    """
    if padding is not None:
        padding = padding.unflatten(0, (-1, 1, 1))  # (batch, 1, 1, keys)
    masks = [each for each in (mask, padding) if each is not None]
    if all(each.dtype == _C.bool for each in masks):
        allowed = [each.logical_not() for each in masks]
        return None if not allowed else allowed[0] & allowed[1] if len(masks) > 1 else allowed[0]
    added = [_added(each, dtype) for each in masks]
    return added[0] + added[1] if len(added) > 1 else added[0]


def _added(mask: Tensor, dtype: _C.dtype) -> Tensor:
    if mask.dtype != _C.bool:
        return mask
    zeros = _C.ops.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill(mask, -math.inf)


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
