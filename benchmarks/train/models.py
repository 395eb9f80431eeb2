"""The networks of the workloads, written as a user of either runtime would write them.

`rope` and the gated networks are what differs: a runtime without a function for them gets the
usual formula.
"""

from __future__ import annotations

from typing import Any

import vibetensor.torch as torch
from vibetensor.torch import nn

F = nn.functional


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of [batch, heads, time, features], the halves rotated as pairs."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    turned = torch.cat((-second, first), -1)
    return x * cos + turned * sin


def rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """`rotate`, in one operator where there is one."""
    own = getattr(F, "rope", None)
    y: torch.Tensor = rotate(x, cos, sin) if own is None else own(x)
    return y


class Attention(nn.Module):
    """Self-attention over [batch, time, width], causal or not, with or without rotary positions."""

    def __init__(
        self, width: int, heads: int, time: int, causal: bool, rotary: bool, bias: bool
    ) -> None:
        super().__init__()
        self.heads, self.causal, self.rotary = heads, causal, rotary
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        if rotary:
            size = width // heads
            rates = 10000.0 ** (-torch.arange(0, size, 2).float() / size)
            angles = torch.outer(torch.arange(time).float(), rates)
            angles = torch.cat((angles, angles), -1)
            self.register_buffer("cos", angles.cos())
            self.register_buffer("sin", angles.sin())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(width, dim=2)
        )
        if self.rotary:
            cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
            q, k = rope(q, cos, sin), rope(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        z: torch.Tensor = self.out(y.transpose(1, 2).reshape(batch, time, width))
        return z


class Block(nn.Module):
    """Attention, then a two-layer network, each added to what came in."""

    def __init__(
        self,
        width: int,
        heads: int,
        time: int,
        *,
        causal: bool,
        rms: bool,
        rotary: bool,
        bias: bool,
    ) -> None:
        super().__init__()
        norm: Any = nn.RMSNorm if rms else nn.LayerNorm
        self.norm1 = norm(width)
        self.attention = Attention(width, heads, time, causal, rotary, bias)
        self.norm2 = norm(width)
        self.grow = nn.Linear(width, 4 * width, bias=bias)
        self.shrink = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        h = F.gelu(self.grow(self.norm2(x)), approximate="tanh")
        x = x + self.shrink(h)
        return x


class Transformer(nn.Module):
    """Ids [batch, time] to logits [batch, time, vocabulary].

    Args:
        rms, rotary: RMSNorm and rotary positions in place of LayerNorm and learned ones.
        tied: the head shares its weight with the embedding.
    """

    def __init__(
        self,
        vocabulary: int,
        time: int,
        width: int,
        heads: int,
        layers: int,
        *,
        causal: bool = True,
        rms: bool = False,
        rotary: bool = False,
        bias: bool = True,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = None if rotary else nn.Embedding(time, width)
        self.blocks = nn.ModuleList(
            [
                Block(width, heads, time, causal=causal, rms=rms, rotary=rotary, bias=bias)
                for _ in range(layers)
            ]
        )
        self.norm = (nn.RMSNorm if rms else nn.LayerNorm)(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.token.weight
        for name, param in self.named_parameters():
            if param.ndim == 2:
                nn.init.normal_(param, 0.0, 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(param)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.token(ids)
        if self.position is not None:
            x = x + self.position(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        x = self.head(self.norm(x))
        return x


class ViT(nn.Module):
    """Images [batch, 3, 32, 32] to logits [batch, classes]: 4x4 patches after 16 class tokens."""

    def __init__(self, width: int, heads: int, layers: int, classes: int = 10) -> None:
        super().__init__()
        self.patch = nn.Linear(48, width)
        self.tokens = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.position = nn.Parameter(torch.randn(80, width) * 0.02)
        self.blocks = nn.ModuleList(
            [
                Block(width, heads, 80, causal=False, rms=False, rotary=False, bias=True)
                for _ in range(layers)
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        batch = images.shape[0]
        cut = images.reshape(batch, 3, 8, 4, 8, 4).permute(0, 2, 4, 1, 3, 5).reshape(batch, 64, 48)
        patches = self.patch(cut)
        tokens = self.tokens.to(patches.dtype).expand(batch, 16, patches.shape[-1])
        x = torch.cat((tokens, patches), 1) + self.position.to(patches.dtype)
        for block in self.blocks:
            x = block(x)
        x = self.head(self.norm(x)[:, :16].mean(1))
        return x


class MLP(nn.Module):
    """4096 numbers through 16384 hidden ones to 1024."""

    def __init__(self) -> None:
        super().__init__()
        self.grow = nn.Linear(4096, 16384)
        self.shrink = nn.Linear(16384, 1024)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.shrink(F.relu(self.grow(x)))
        return y


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits [..., classes] and classes [...], in float32."""
    mean: torch.Tensor = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
    return mean
