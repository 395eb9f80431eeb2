"""Autocast and loss scales in captured steps, whose replays give the bits of eager steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vibetensor
import vibetensor.torch as torch

STEPS = 8


def numbers(tensor: Any) -> np.ndarray:
    return np.array(tensor.detach().float().cpu())


def trained(*, device: str, around: bool, captured: bool, scaled: bool) -> list[np.ndarray]:
    """Losses and weights of a few steps."""
    torch.manual_seed(4)
    dtype = torch.float16 if scaled else torch.bfloat16
    net = torch.nn.Sequential(
        torch.nn.Linear(16, 32), torch.nn.LayerNorm(32), torch.nn.GELU(), torch.nn.Linear(32, 4)
    ).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    # The first scale overflows for some steps.
    scaler = torch.amp.GradScaler(device, init_scale=2.0**18, growth_interval=3, enabled=scaled)
    scaler.scale(torch.zeros(1, device=device))  # makes its state, which a capture may not

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        with torch.autocast(device, dtype):
            loss = torch.nn.functional.cross_entropy(net(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss

    run = vibetensor.capture(step) if captured else step
    results = []
    for i in range(STEPS):
        torch.manual_seed(100 + i)
        x, y = torch.randn(8, 16).to(device), torch.randint(4, (8,)).to(device)
        with torch.autocast(device, dtype, enabled=around):
            results.append(numbers(run(x, y)))
    if captured and device == "cuda":
        assert run.replays > 0, run.reason
    return [*results, *(numbers(p) for p in net.parameters()), np.array(scaler.get_scale())]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("around", [False, True])
def test_replays_are_eager_steps(device: str, around: bool, scaled: bool) -> None:
    eager = trained(device=device, around=around, captured=False, scaled=scaled)
    replayed = trained(device=device, around=around, captured=True, scaled=scaled)
    for mine, expected in zip(replayed, eager, strict=True):
        assert np.array_equal(mine, expected)
