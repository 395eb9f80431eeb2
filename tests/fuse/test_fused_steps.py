"""A captured step that was fused does what it does without the compiler."""

from __future__ import annotations

import json

import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import fuse

nn = torch.nn

pytestmark = pytest.mark.cuda


class Gated(nn.Module):
    """RMSNorm written as a formula, a gated layer and dropout: chains of every kind."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.up, self.gate = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * self.scale
        hidden = torch.sigmoid(self.gate(normed)) * torch.tanh(self.up(normed))
        return x + nn.functional.dropout(self.down(hidden), 0.1)


def losses(fused: object, steps: int = 6) -> tuple[list[float], list[bytes], object]:
    torch.manual_seed(0)
    model = nn.Sequential(Gated(64), Gated(64), nn.Linear(64, 8)).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    run = step if fused is None else vibetensor.capture(step, fuse=fused, strict=True)
    torch.manual_seed(1)
    data = [(torch.randn(32, 64), torch.randn(32, 8)) for _ in range(steps)]
    found = [run(x.to("cuda"), y.to("cuda")).item() for x, y in data]
    weights = [p.detach().cpu().numpy().tobytes() for p in model.parameters()]
    return found, weights, None if fused is None else run.report()


# Passes that promise the bits of the eager step; the others round less often.
EXACT = ["pointwise", "casts", "fills", "dead_work", "add_norm"]


def test_chains_give_the_bits_of_the_eager_step() -> None:
    eager = losses(None)
    plain = losses(False)
    fused = losses(EXACT)
    assert plain[:2] == eager[:2]
    assert fused[:2] == eager[:2]
    report = fused[2]
    assert isinstance(report, fuse.Report) and report.failure == ""
    assert report.launched < report.recorded
    json.dumps(report.to_dict())
    assert plain[2] is None


@pytest.mark.parametrize("off", EXACT)
def test_each_pass_off_gives_the_same_bits(off: str) -> None:
    assert losses([name for name in EXACT if name != off])[:2] == losses(False)[:2]


def test_a_wrong_pass_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="no pass named"):
        vibetensor.capture(lambda: None, fuse={"pointwize": False})
