"""Captured steps whose loss joins the product of its logits, beside those without the pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import fuse

nn, F = torch.nn, torch.nn.functional
pytestmark = pytest.mark.cuda

NAME = "linear_cross_entropy"
CLASSES, WIDTH, TEXTS, TIME = 3264, 64, 41, 100  # enough rows and classes for the kernel


class Tiny(nn.Module):
    """Embedding, a block of two layers with GELU, a norm and a head."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.token = nn.Embedding(CLASSES, WIDTH)
        self.first, self.norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.grow, self.shrink = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES, bias=False)
        nn.init.normal_(self.token.weight, 0.0, 0.05)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.token(ids)
        x = x + self.shrink(F.gelu(self.grow(self.first(x)), approximate="tanh"))
        return self.head(self.norm(x))


def data(steps: int, texts: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    numbers = np.random.default_rng(0)
    ids = numbers.integers(0, CLASSES, (steps, texts, TIME + 1))
    ids[:, 0, 3] = CLASSES - 1
    return [(torch.from_numpy(a[:, :-1].copy()), torch.from_numpy(a[:, 1:].copy())) for a in ids]


def train(
    passes: Any, *, tied: bool = True, batches: int = 1, wide: bool = False,
    reduction: str = "mean",
    scale: float = 1.0, keeps: bool = False, steps: int = 6,
) -> tuple[list[float], np.ndarray, fuse.Report]:  # fmt: skip
    """Losses of the steps, the gradient of the head after the last, and the step's report."""
    torch.manual_seed(0)
    model = Tiny(tied).to("cuda").to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)

    def step(ids: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
        optimizer.zero_grad()
        told = []
        for inputs, wanted in zip(ids.chunk(batches), targets.chunk(batches), strict=True):
            logits = model(inputs).flatten(0, 1)
            loss = F.cross_entropy(logits.float() if wide else logits, wanted.flatten(),
                                   reduction=reduction)  # fmt: skip
            if reduction == "none":
                loss = loss.mean()
            if keeps:
                told.append(logits.amax())
            del logits
            (loss * scale).backward()
            told.append(loss.detach())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        return told

    captured = vibetensor.capture(step, fuse=passes, strict=True)
    found = []
    for ids, targets in data(steps, TEXTS * batches):
        found += [float(t) for t in captured(ids.to("cuda"), targets.to("cuda"))]
    report = captured.report()
    assert isinstance(report, fuse.Report) and report.failure == ""
    assert model.head.weight.grad is not None
    return found, model.head.weight.grad.double().cpu().numpy(), report


@pytest.mark.parametrize(
    "options",
    [
        {}, {"tied": False}, {"batches": 3}, {"wide": True}, {"reduction": "sum"},
        {"reduction": "none"}, {"scale": 3.0}, {"wide": True, "scale": 3.0, "batches": 2},
    ],
)  # fmt: skip
def test_losses_and_gradients_of_captured_steps(options: dict[str, Any]) -> None:
    expected, gradient, without = train({NAME: False}, **options)
    assert NAME not in without.rewrites
    found, same, report = train(True, **options)
    assert report.rewrites[NAME] == options.get("batches", 1)
    np.testing.assert_allclose(found, expected, rtol=0.02)
    assert np.linalg.norm(same - gradient) < 0.1 * np.linalg.norm(gradient)
    again, bits, _ = train(True, **options)
    assert again == found and bits.tobytes() == same.tobytes()


def test_logits_that_are_read_stay() -> None:
    expected, gradient, _ = train({NAME: False}, keeps=True)
    found, same, report = train(True, keeps=True)
    assert NAME not in report.rewrites
    assert found == expected and same.tobytes() == gradient.tobytes()
