"""A run on fabric tensors that was saved goes on on any mesh, in any cut, and on one device."""

from __future__ import annotations

import io

import pytest

import vibetensor.torch as torch
from vibetensor import fabric

nn, F = torch.nn, torch.nn.functional

CUTS = {
    "whole": {},
    "columns then rows": {"up": "column", "down": "row"},
    "rows then columns": {"up": "row", "down": "column"},
    "uneven": {"*": fabric.Shard(0)},
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 6)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


def optimizer_of(kind, model):
    if kind == "SGD":
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    half = [model.up.weight, model.up.bias]
    rest = [model.down.weight, model.down.bias]
    return torch.optim.AdamW([{"params": half}, {"params": rest, "lr": 3e-3}], lr=1e-2)


def run(model, optimizer, steps, mesh, placement=None):
    """Steps `steps` of a fixed run; the losses."""
    losses = []
    dtype = model.up.weight.dtype
    for step in steps:
        torch.manual_seed(step)
        x, y = torch.randn(8, 8).to(dtype), torch.randn(8, 6)
        if mesh is not None:
            x, y = (fabric.distribute(t, mesh, placement or fabric.Replicate()) for t in (x, y))
        optimizer.zero_grad()
        loss = (model(x).float() - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def fresh(mesh, cut, kind, dtype):
    torch.manual_seed(0)
    model = Net().to(dtype)
    if mesh is not None:
        fabric.distribute_module(model, mesh, CUTS[cut])
    return model, optimizer_of(kind, model)


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cut", CUTS)
def test_a_saved_run_goes_on_elsewhere(cut, dtype, kind, mesh):
    devices = list(mesh.devices)
    tolerance = {"rel": 1e-4, "abs": 1e-6} if dtype == torch.float32 else {"rel": 0.05, "abs": 5e-3}
    model, optimizer = fresh(mesh, cut, kind, dtype)
    run(model, optimizer, range(3), mesh)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    expected = run(model, optimizer, range(3, 6), mesh)

    others = [(None, "whole"), (mesh, cut)]
    if len(devices) > 2:
        others += [(fabric.mesh(devices[:3]), other) for other in CUTS]
    else:
        others += [(fabric.mesh(devices[::-1]), other) for other in CUTS]
    for place, other in others:
        model, optimizer = fresh(place, other, kind, dtype)
        run(model, optimizer, [9], place)  # what is there is replaced
        file.seek(0)
        state = torch.load(file)
        assert all(t.device.type == "cpu" for t in state["model"].values())
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        got = run(model, optimizer, range(3, 6), place)
        assert got == pytest.approx(expected, **tolerance), (other, place)


def test_state_of_one_mesh_is_taken_by_another(mesh):
    """Without a file in between."""
    model, optimizer = fresh(mesh, "columns then rows", "AdamW", torch.float32)
    run(model, optimizer, range(2), mesh)
    state = optimizer.state_dict()
    assert sorted(state["state"]) == [0, 1, 2, 3]
    assert state["param_groups"][1]["params"] == [2, 3]
    assert state["state"][0]["exp_avg"].placement == fabric.Shard(0)
    assert state["state"][0]["step"].item() == 2
    small = fabric.mesh(list(mesh.devices)[:1])
    other, taken = fresh(small, "rows then columns", "AdamW", torch.float32)
    other.load_state_dict({name: t.full_tensor() for name, t in model.state_dict().items()})
    taken.load_state_dict(state)
    expected = run(model, optimizer, [5], mesh)
    assert run(other, taken, [5], small) == pytest.approx(expected, rel=1e-4)
    back = taken.state_dict()["state"][2]["exp_avg_sq"].full_tensor().to("cpu")
    here = optimizer.state_dict()["state"][2]["exp_avg_sq"].full_tensor().to("cpu")
    assert torch.allclose(back, here, rtol=1e-4, atol=1e-9)


def test_state_of_another_shape_is_refused(mesh):
    model, optimizer = fresh(mesh, "columns then rows", "AdamW", torch.float32)
    run(model, optimizer, range(1), mesh)
    state = optimizer.state_dict()
    state["state"][2]["exp_avg"] = torch.zeros(6, 15)
    with pytest.raises(
        ValueError, match=r"'exp_avg' of parameter 2 has shape \[6, 15\].*\[6, 16\]"
    ):
        optimizer.load_state_dict(state)
    state["param_groups"][0]["params"] = [0, 1, 2]
    with pytest.raises(ValueError, match="3 and 2"):
        optimizer.load_state_dict(state)
