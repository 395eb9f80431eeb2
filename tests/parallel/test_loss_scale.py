"""Updates that the device skips: optimizers with found_inf, the loss scale, and float16 runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import _C, fabric, nn
from vibetensor.parallel import DataParallel, Trainer
from vibetensor.parallel.precision import LossScale

cuda = pytest.mark.cuda
places = pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=cuda)])

Make = Callable[[list[Any]], Any]
KINDS: dict[str, Make] = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
}
# Skipped at first, in between and twice in a row. Of the third parameter some gradients are absent.
FOUND = [1, 0, 0, 1, 1, 0, 1, 0, 0]
ABSENT = {1, 3, 4, 7}


def leaves(place: str, dtype: torch.dtype) -> list[Any]:
    torch.manual_seed(2)
    return [torch.randn(n).to(place).to(dtype).requires_grad_() for n in (5, 1, 300, 7)]


def set_grads(params: list[Any], step: int, found: float) -> None:
    torch.manual_seed(100 + step)
    for i, param in enumerate(params):
        grad = torch.randn(param.numel()).to(param.device).to(param.dtype)
        absent = i == 2 and step in ABSENT
        param.grad = None if absent else grad / (1 - found) if found else grad


def numbers(params: list[Any]) -> list[np.ndarray]:
    return [np.array(p.detach().float().cpu()) for p in params]


@places
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_a_skipped_update_has_not_happened(kind: str, dtype: torch.dtype, place: str) -> None:
    plain, guarded = leaves(place, dtype), leaves(place, dtype)
    first, second = KINDS[kind](plain), KINDS[kind](guarded)
    for step, found in enumerate(FOUND):
        set_grads(guarded, step, found)
        second.step(found_inf=torch.tensor(float(found)).to(place))
        if not found:
            set_grads(plain, step, found)
            first.step()
    same = np.testing.assert_array_equal if place == "cpu" else np.testing.assert_allclose
    bound = {} if place == "cpu" else {"rtol": 2e-3 if dtype == torch.float16 else 2e-6}
    for a, b in zip(numbers(plain), numbers(guarded), strict=True):
        same(b, a, **bound)
    ours, theirs = second.state_dict()["state"], first.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    for i, state in theirs.items():
        assert ours[i].keys() == state.keys()
        if "step" in state:
            assert ours[i]["step"].item() == state["step"].item()
    # The counts go on where the state was looked at, or loaded by another optimizer.
    third = KINDS[kind](guarded)
    third.load_state_dict(second.state_dict())
    for optimizer, params in ((third, guarded), (first, plain)):
        set_grads(params, 50, 0)
        optimizer.step()
    for a, b in zip(numbers(plain), numbers(guarded), strict=True):
        same(b, a, **bound)


@places
def test_adam_decays_what_float16_cannot_hold(place: str) -> None:
    exact, ours = leaves(place, torch.float64), leaves(place, torch.float16)
    first, second = KINDS["Adam"](exact), KINDS["Adam"](ours)
    scale = 2.0**24
    for step in range(4):
        set_grads(ours, 20 + step, 0)
        for a, b in zip(exact, ours, strict=True):
            if step == 0:
                a.data = b.detach().double()
            a.grad = b.grad.double() / scale
        first.step()
        second.step(grad_scale=torch.tensor(1 / scale).to(place))
    for a, b in zip(numbers(exact), numbers(ours), strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-3, atol=2e-3)


@cuda
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_captured_step_that_skips_has_the_bits_of_an_eager_one(
    kind: str, dtype: torch.dtype
) -> None:
    def train(capture: bool) -> tuple[list[np.ndarray], int]:
        params = leaves("cuda", dtype)
        optimizer = KINDS[kind](params)

        def step(grads: list[Any], found: Any) -> None:
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad.clone()
            optimizer.step(found_inf=found)

        call = vibetensor.capture(step, strict=True) if capture else step
        for i in range(12):
            found = float(i % 4 == 3 or i == 0)
            torch.manual_seed(i)
            grads = [torch.randn(p.numel()).to(dtype).cuda() for p in params]
            grads[0] = grads[0] / (1 - found) if found else grads[0]
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + i)
            call(grads, torch.tensor(found).cuda())
        steps = [s["step"].item() for s in optimizer.state_dict()["state"].values() if "step" in s]
        assert all(count == 8 for count in steps)
        return numbers(params), call.replays if capture else 0

    eager, captured = train(False), train(True)
    assert eager[1] == 0 and captured[1] >= 9
    for a, b in zip(eager[0], captured[0], strict=True):
        assert np.array_equal(a, b)


@places
def test_the_scale_follows_the_norms(place: str) -> None:
    device = torch.device(f"{place}:0")
    ours = LossScale([device], value=2.0**4, interval=3)
    value, good = 2.0**4, 0
    for norm in (3.0, 5.0, 1.0, float("inf"), float("nan"), 8.0, 16.0, 64.0, 1.0):
        factor, overflow, plain = ours.update(torch.tensor(norm).to(place), 0.5)
        if norm < float("inf"):
            expected = np.float32(min(1.0, 0.5 / (norm / value + 1e-6)) / value)
            assert factor.item() == pytest.approx(expected, rel=1e-6)
            assert plain.item() == norm / value and overflow.item() == 0
            good += 1
            if good == 3:
                value, good = value * 2, 0
        else:
            assert overflow.item() == 1
            value, good = value / 2, 0
        assert ours.state_dict() == {"value": value, "good": good}
    other = LossScale([device])
    other.load_state_dict(ours.state_dict())
    assert other.state_dict() == ours.state_dict()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 16), nn.Linear(16, 3)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Any) -> Any:
        return self.two(self.drop(nn.functional.gelu(self.one(x)))).float()


def run(mesh: fabric.Mesh, sizes: list[int], **options: Any) -> tuple[Any, list[Any], Trainer]:
    torch.manual_seed(5)
    model = DataParallel(Net(), mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    own = Trainer(
        model, optimizer, nn.functional.cross_entropy, clip=0.5, scheduler=schedule,
        precision="fp16", **options,
    )  # fmt: skip
    assert own._loss_scale is not None
    own._loss_scale.interval = 4
    draw = np.random.default_rng(3)
    metrics = []
    for i, size in enumerate(sizes):
        x = draw.standard_normal((size, 6)).astype(np.float32)
        if i % 5 == 4:  # of one sample, so that one rank alone overflows
            x[-1] *= 3e4
        y = draw.integers(0, 3, size)
        metrics.append(own.step((torch.from_numpy(x), torch.from_numpy(y))))
    found = [(m.loss, m.grad_norm, m.lr, m.skipped) for m in metrics]
    for replica in own.model.replicas[1:]:
        pairs = zip(own.model.replicas[0].parameters(), replica.parameters(), strict=True)
        for a, b in pairs:
            assert torch.equal(a.detach().cpu(), b.detach().cpu())
    scales = {tuple(state.tolist()) for state in own._loss_scale._states.values()}
    assert len(scales) == 1
    return found, numbers(list(own.model.parameters())), own


def test_skipped_steps_on_cpu_devices_do_not_count() -> None:
    if _C.device_count("cpu") < 3:
        vibetensor.set_cpu_devices(3)
    found, _, own = run(fabric.mesh([f"cpu:{i}" for i in range(3)]), [9] * 12)
    skipped = [i for i, (_, norm, _, skip) in enumerate(found) if skip]
    assert {4, 9} <= set(skipped)
    assert all(np.isfinite(norm) != skip for _, norm, _, skip in found)
    states = own.optimizer.state_dict()["state"].values()
    assert {state["step"].item() for state in states} == {12 - len(skipped)}
    assert all(lr != found[0][2] for _, _, lr, _ in found[1:])  # the schedule counts all


@pytest.mark.parametrize(
    "devices",
    [
        pytest.param(["cuda:0"], marks=cuda),
        pytest.param(["cuda:0"] * 3, marks=cuda),
        pytest.param(["cuda:0", "cuda:1"], marks=pytest.mark.cuda(devices=2)),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_captured_float16_runs_have_the_bits_of_eager_ones(
    devices: list[str], accumulate: int
) -> None:
    mesh = fabric.mesh(devices)
    sizes = [12] * 5 + [9] * 4 + [12] * 11
    eager = run(mesh, sizes, accumulate=accumulate, capture=False)
    captured = run(mesh, sizes, accumulate=accumulate, capture=True)
    assert eager[2].replays == 0 and captured[2].replays >= 16
    assert any(skip for *_, skip in eager[0]) and not all(skip for *_, skip in eager[0])
    np.testing.assert_array_equal(np.array(eager[0]), np.array(captured[0]))
    for a, b in zip(eager[1], captured[1], strict=True):
        assert np.array_equal(a, b)
    assert eager[2].state_dict()["loss_scale"] == captured[2].state_dict()["loss_scale"]
    before, after = (
        run_of[2].optimizer.state_dict()["state"][0]["step"].item() for run_of in (eager, captured)
    )
    assert before == after
