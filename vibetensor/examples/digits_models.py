"""Two classifiers of 8x8 images: a plain network, and a vision transformer without convolutions."""

from __future__ import annotations

import vibetensor.torch as torch
from vibetensor.torch import nn

F = nn.functional


class MLP(nn.Module):
    """Images [batch, 8, 8] to logits [batch, 10] through two hidden layers."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


class Encoder(nn.Module):
    """One transformer block over [batch, patches, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, patches, width = x.shape
        q, k, v = (
            part.view(batch, patches, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(width, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(batch, patches, width))
        x = x + self.mlp(self.norm2(x))
        return x


class ViT(nn.Module):
    """Images [batch, 8, 8] to logits [batch, 10]: 2x2 patches, a few blocks, the mean of all."""

    def __init__(self, width: int = 48, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.patch = nn.Linear(4, width)
        self.position = nn.Parameter(torch.randn(16, width) * 0.02)
        self.blocks = nn.Sequential(*(Encoder(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        batch = images.shape[0]
        # [batch, 4, 2, 4, 2] -> [batch, 4, 4, 2, 2]: rows and columns of patches first
        patches = images.reshape(batch, 4, 2, 4, 2).permute(0, 1, 3, 2, 4).reshape(batch, 16, 4)
        x: torch.Tensor = self.blocks(self.patch(patches) + self.position)
        x = self.head(self.norm(x).mean(1))
        return x


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits [batch, 10] and classes [batch], in float32."""
    mean: torch.Tensor = F.cross_entropy(logits.float(), targets)
    return mean
