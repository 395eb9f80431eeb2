"""Training steps with each pass alone, and without each, give the numbers of eager steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import fuse

nn, F = torch.nn, torch.nn.functional

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]

# Passes that promise the bits of the eager step; others round less often, or sum otherwise.
EXACT = {"pointwise", "casts", "fills", "dead_work", "copies", "add_norm"}
PATTERNS = {"add_norm", "gelu_backward", "norm_backward_sum", "cross_entropy"}


class Block(nn.Module):
    """A residual stream through two norms, GELU between two layers, and a norm by its formula."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.LayerNorm(width), nn.RMSNorm(width)
        self.mix = nn.Linear(width, width)
        self.grow, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mix(self.first(x))
        x = x + self.shrink(F.gelu(self.grow(self.last(x)), approximate="tanh"))
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5)


def train(
    device: str, recorded: Callable[[], fuse.recording] | None
) -> tuple[list[np.ndarray], set[str]]:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Embedding(50, 64), Block(64), Block(64), nn.Linear(64, 50)).to(device)
    optimizer = torch.optim.AdamW(body.parameters(), lr=1e-3)
    tokens = torch.randint(0, 50, (4, 12), device=device)
    found: list[np.ndarray] = []
    rewrites: set[str] = set()

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        losses = F.cross_entropy(body(tokens).flatten(0, 1), tokens.flatten(), reduction="none")
        loss = (losses * 0.5).sum()
        del losses
        loss.backward()
        nn.utils.clip_grad_norm_(body.parameters(), 1.0)
        optimizer.step()
        return loss

    for _ in range(3):
        if recorded is None:
            loss = step()
        else:
            with recorded() as made:
                loss = step()
            assert made.report is None or made.report.failure == ""
            rewrites |= set(made.report.rewrites) if made.report is not None else set()
        found.append(np.array(loss.detach().cpu()))
    return [*found, *(np.array(p.detach().cpu()) for p in body.parameters())], rewrites


def assert_near(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for f, e in zip(found, expected, strict=True):
        # Adam divides by the gradient's size, so what rounds differently moves by a part of 3 * lr.
        np.testing.assert_allclose(f, e, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", fuse.passes())
def test_a_pass_alone(name: str, device: str) -> None:
    expected, _ = train(device, None)
    found, rewrites = train(device, lambda: fuse.recording({name}))
    assert_near(found, expected)
    if name in EXACT:
        assert all((f == e).all() for f, e in zip(found, expected, strict=True))
    assert rewrites <= {name}


@pytest.mark.parametrize("device", DEVICES)
def test_all_passes(device: str) -> None:
    expected, _ = train(device, None)
    found, rewrites = train(device, fuse.recording)
    assert_near(found, expected)
    # On a GPU GELU's slope is made by large products only, and float32 products sum columns.
    if device == "cpu":
        assert rewrites >= PATTERNS | {"gelu_slope"}
    else:
        assert rewrites >= PATTERNS - {"norm_backward_sum"} | {"linear_gelu"}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", fuse.passes())
def test_all_passes_but_one(name: str, device: str) -> None:
    expected, _ = train(device, None)
    found, rewrites = train(device, lambda: fuse.recording({name: False}))
    assert_near(found, expected)
    assert name not in rewrites
