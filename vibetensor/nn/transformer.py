"""TransformerEncoder and its layer, as torch's, with residual sum, dropout and norm in one pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from vibetensor import _C
from vibetensor.nn.activation import GELU, ReLU
from vibetensor.nn.attention import MultiheadAttention
from vibetensor.nn.containers import ModuleList
from vibetensor.nn.dropout import Dropout
from vibetensor.nn.in_one import add_norm, gelu_layer, is_gelu_layer
from vibetensor.nn.linear import Linear
from vibetensor.nn.module import Module
from vibetensor.nn.norm import LayerNorm

Tensor = _C.Tensor


class TransformerEncoderLayer(Module):
    """Self-attention and two layers with an activation between, each around the residual stream.

    Args:
        d_model: width of the stream.
        nhead: heads of the attention.
        dim_feedforward: width between the two layers.
        dropout: probability, for attention weights, between the two layers and before each sum.
        activation: "relu", "gelu", a module or a function. `nn.GELU(approximate="tanh")` is
            computed by the product before it.
        layer_norm_eps: of the two norms.
        batch_first: inputs are `(batch, length, d_model)`; else `(length, batch, d_model)`.
        norm_first: the norms come before attention and layers, not after the sums.
        bias: whether layers and norms have biases.

    The names in the state dict are torch's.

    Raises:
        ValueError: there is no such activation, or the heads do not divide the width.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: _C.dtype | None = None,
    ) -> None:
        super().__init__()
        make: dict[str, Any] = {"device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first, **make)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **make)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **make)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, **make)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, **make)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation = _activation(activation)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """The stream behind the layer.

        Args:
            src: the stream in front of it.
            src_mask: as `attn_mask` of MultiheadAttention.
            src_key_padding_mask: as its `key_padding_mask`.
            is_causal: without a mask: no position sees later ones. With one, the mask decides.
        """
        masks = (src_mask, src_key_padding_mask, is_causal)
        if self.norm_first:
            branch = self._attend(self.norm1(src), *masks)
            normed, stream = add_norm(branch, src, self.dropout1, self.norm2)
            dropped: Tensor = self.dropout2(self._feed(normed))
            return stream + dropped
        stream, _ = add_norm(self._attend(src, *masks), src, self.dropout1, self.norm1)
        normed, _ = add_norm(self._feed(stream), stream, self.dropout2, self.norm2)
        return normed

    def _attend(
        self, x: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool
    ) -> Tensor:
        out: Tensor = self.self_attn(
            x, x, x, padding, need_weights=False, attn_mask=mask, is_causal=is_causal
        )[0]
        return out

    def _feed(self, x: Tensor) -> Tensor:
        if is_gelu_layer(self.linear1, self.activation):
            x = gelu_layer(self.linear1, x)
        else:
            x = self.activation(self.linear1(x))
        out: Tensor = self.linear2(self.dropout(x))
        return out


class TransformerEncoder(Module):
    """Copies of a layer, one after the other.

    Args:
        encoder_layer: what is copied; all start from its values.
        num_layers: how many copies.
        norm: of the last one's output, or None.
        enable_nested_tensor, mask_check: as in torch; padding is masked, never cut out.
    """

    norm: Module | None

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """The stream behind all layers; see TransformerEncoderLayer."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return src if self.norm is None else self.norm(src)


def _activation(given: str | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    if not isinstance(given, str):
        return given
    if given not in ("relu", "gelu"):
        raise ValueError(f"activation should be 'relu', 'gelu' or a function, not {given!r}")
    return ReLU() if given == "relu" else GELU()
