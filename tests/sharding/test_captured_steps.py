"""A captured step on fabric tensors has the bits of the eager one."""

from __future__ import annotations

import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import fabric

nn, F = torch.nn, torch.nn.functional


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(64, 256), nn.Linear(256, 10)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


def losses(mesh, plan, placement, captured):
    torch.manual_seed(3)
    model = fabric.distribute_module(MLP(), mesh, plan)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def step(xs, ys):
        x = fabric.from_local_shards(xs, mesh, placement)
        y = fabric.from_local_shards(ys, mesh, placement)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return list(loss.reshard(fabric.Replicate()).to_local_shards())

    run = vibetensor.capture(step, devices=list(mesh.devices)) if captured else step
    found = []
    for number in range(8):
        torch.manual_seed(number)
        x, y = torch.randn(32, 64), torch.randint(10, (32,))
        xs, ys = (fabric.distribute(t, mesh, placement).to_local_shards() for t in (x, y))
        found.append(float(run(xs, ys)[0].detach()))
    if captured:
        assert run.captures == 1, run.reason
        assert run.replays >= 6
    return found


@pytest.mark.parametrize("way", ["batch cut", "layers cut"])
def test_captured_steps_have_the_bits_of_eager_ones(way, mesh):
    if mesh.type == "cpu":
        pytest.skip("graphs are of GPUs")
    cut = way == "batch cut"
    plan = None if cut else {"up": "column", "down": "row"}
    placement = fabric.Shard(0) if cut else fabric.Replicate()
    assert losses(mesh, plan, placement, True) == losses(mesh, plan, placement, False)
