"""A small GPT: characters in, a guess at the next one out."""

from __future__ import annotations

from typing import Any

import vibetensor.torch as torch
from vibetensor.torch import nn

F = nn.functional


class Attention(nn.Module):
    """Causal self-attention of several heads over [batch, time, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(width, dim=2)
        )
        y: torch.Tensor = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = self.out(y.transpose(1, 2).reshape(batch, time, width))
        return y


class Block(nn.Module):
    """Attention, then a two-layer network, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x


class GPT(nn.Module):
    """Token ids [batch, time] to logits [batch, time, vocabulary].

    Raises:
        ValueError: width is no multiple of heads.
    """

    def __init__(self, vocabulary: int, context: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"gpt: width {width} is not a multiple of {heads} heads")
        self.context = context
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for name, param in self.named_parameters():
            if param.ndim == 2:
                nn.init.normal_(param, 0.0, 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(param)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        time = ids.shape[1]
        x: torch.Tensor = self.token(ids) + self.position(torch.arange(time, device=ids.device))
        for block in self.blocks:
            x = block(x)
        x = self.head(self.norm(x))
        return x


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits [batch, time, vocabulary] and ids [batch, time], in float32."""
    rows = logits.reshape(-1, logits.shape[-1]).float()
    mean: torch.Tensor = F.cross_entropy(rows, targets.reshape(-1))
    return mean


def generate(model: Any, ids: list[int], count: int, temperature: float = 0.8) -> list[int]:
    """`ids` and `count` more, each drawn from what the model expects next."""
    device = next(model.parameters()).device
    ids = list(ids)
    with torch.no_grad():
        for _ in range(count):
            window = torch.tensor([ids[-model.context :]], device=device)
            logits = model(window)[0, -1].float() / temperature
            ids.append(int(torch.multinomial(torch.softmax(logits, -1), 1).item()))
    return ids
