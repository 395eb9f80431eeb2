"""The trainer: batches of every shape, precisions, groups, schedules, and input that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import fabric, nn
from vibetensor.parallel import DataParallel, Trainer


def cpu_mesh(ranks: int) -> fabric.Mesh:
    return fabric.mesh([f"cpu:{rank}" for rank in range(ranks)])


def make(ranks: int = 2, module: nn.Module | None = None, **options: Any) -> Trainer:
    torch.manual_seed(4)
    model = DataParallel(module or nn.Linear(3, 2), cpu_mesh(ranks))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    options.setdefault("loss_fn", nn.MSELoss())
    return Trainer(model, optimizer, **options)


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = np.random.default_rng(size).standard_normal((size, 5)).astype(np.float32)
    return torch.from_numpy(numbers[:, :3].copy()), torch.from_numpy(numbers[:, 3:].copy())


def values(trainer: Trainer, rank: int = 0) -> np.ndarray:
    flat = [p.detach().float().numpy().ravel() for p in trainer.model.replicas[rank].parameters()]
    return np.concatenate(flat)


@pytest.mark.parametrize("size", [4, 5, 7, 13])
def test_an_uneven_batch_is_weighted(size: int) -> None:
    alone, together = make(1), make(4)
    for _ in range(3):
        a, b = alone.step(batch(size)), together.step(batch(size))
        assert a.loss == pytest.approx(b.loss, rel=1e-6)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-5)
    np.testing.assert_allclose(values(alone), values(together), rtol=1e-5, atol=1e-7)
    assert all(np.array_equal(values(together), values(together, rank)) for rank in range(4))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_smaller_than_the_ranks(accumulate: int) -> None:
    trainer = make(4, accumulate=accumulate)
    before = values(trainer)
    with pytest.raises(
        ValueError, match=r"3 samples cannot be split over 4 ranks; use a batch of "
    ):
        trainer.step(batch(3 * accumulate))
    assert np.array_equal(values(trainer), before) and trainer.steps == 0


def test_clipping_is_that_of_torch() -> None:
    import torch as pytorch

    trainer = make(3, clip=0.05)
    twin = pytorch.nn.Linear(3, 2)
    state = trainer.model.state_dict()
    twin.load_state_dict({k: pytorch.from_numpy(v.numpy().copy()) for k, v in state.items()})
    optimizer = pytorch.optim.AdamW(twin.parameters(), lr=0.1)
    for i in range(4):
        x, y = batch(6 + i)
        mine = trainer.step((x, y))
        optimizer.zero_grad()
        pytorch.nn.functional.mse_loss(
            twin(pytorch.from_numpy(x.numpy())), pytorch.from_numpy(y.numpy())
        ).backward()
        norm = pytorch.nn.utils.clip_grad_norm_(twin.parameters(), 0.05)
        optimizer.step()
        assert mine.grad_norm == pytest.approx(float(norm), rel=1e-5)
    theirs = np.concatenate([p.detach().numpy().ravel() for p in twin.parameters()])
    np.testing.assert_allclose(values(trainer), theirs, rtol=1e-4, atol=1e-6)


class Losing(nn.Module):
    """A model that returns its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (self.inner(x) - y).square().mean()


def test_a_model_that_returns_its_loss() -> None:
    x, y = batch(6)
    torch.manual_seed(4)
    by_position = make(2, Losing(), loss_fn=None).step((x, y)).loss
    torch.manual_seed(4)
    by_name = make(2, Losing(), loss_fn=None).step({"x": x, "y": y}).loss
    assert by_position == by_name == pytest.approx(make(1).step((x, y)).loss, rel=1e-6)


def test_groups_of_the_optimizer_keep_their_options() -> None:
    torch.manual_seed(4)
    model = DataParallel(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), cpu_mesh(2))
    first, second = model.module[0], model.module[1]
    optimizer = torch.optim.AdamW(
        [{"params": first.parameters(), "lr": 0.0}, {"params": second.parameters(), "lr": 0.1}],
        weight_decay=0.0,
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.1)
    trainer = Trainer(model, optimizer, nn.MSELoss(), scheduler=schedule)
    before = [p.detach().numpy().copy() for p in model.parameters()]
    for _ in range(4):
        trainer.step(batch(6))
    after = [p.detach().numpy() for p in model.parameters()]
    assert all(np.array_equal(a, b) for a, b in zip(before[:2], after[:2], strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(before[2:], after[2:], strict=True))
    assert np.array_equal(values(trainer, 0), values(trainer, 1))
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.001)


def test_frozen_parameters_stay_as_they_are() -> None:
    torch.manual_seed(4)
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    model = DataParallel(net, cpu_mesh(2))
    trainable = [p for p in model.parameters() if p.requires_grad]
    trainer = Trainer(model, torch.optim.AdamW(trainable, lr=0.1), nn.MSELoss())
    before = net[0].weight.detach().numpy().copy()
    trainer.step(batch(6))
    assert np.array_equal(net[0].weight.detach().numpy(), before)


def test_masters_start_from_the_exact_values() -> None:
    exact = values(make(2))
    trainer = make(2, precision="bf16")
    assert all(p.dtype == torch.bfloat16 for p in trainer.model.parameters())
    trainer.step(batch(4))
    masters = [state["master"] for state in trainer.optimizer.state.values()]
    moved = np.concatenate([master.numpy().ravel() for master in masters])
    # One AdamW step moves each value by about lr = 0.1 from where it was, not from its rounding.
    np.testing.assert_allclose(np.abs(moved - exact * (1 - 0.1 * 0.01)), 0.1, rtol=1e-3)


def test_float16_overflow_skips_the_update() -> None:
    trainer = make(2, precision="fp16")
    before = values(trainer)
    x, y = batch(4)
    step = trainer.step((x * 3e4, y))
    assert step.skipped and np.array_equal(values(trainer), before)
    scale = trainer.state_dict()["loss_scale"]["value"]
    assert scale == 2.0**15
    assert not any(trainer.step((x, y)).skipped for _ in range(3))
    assert not np.array_equal(values(trainer), before)


def test_dropout_differs_between_ranks() -> None:
    seen: list[np.ndarray] = []

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.dropout = nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.dropout(x * self.scale)
            seen.append(out.detach().numpy().copy())
            return out

    make(2, Noisy(), loss_fn=lambda a, b: a.mean()).step((torch.ones(40, 4), torch.ones(40)))
    assert not np.array_equal(seen[0], seen[1])


def test_the_joined_forward() -> None:
    model = make(3).model
    x, _ = batch(7)
    np.testing.assert_allclose(
        model(x).detach().numpy(), model.module(x).detach().numpy(), rtol=1e-6
    )
    assert model(x[:2]).shape == (2, 2)


def test_what_a_run_leaves(tmp_path: Path) -> None:
    trainer = make(2, clip=1.0)
    result = trainer.fit([batch(8)] * 5, epochs=3, out=tmp_path, unit="tokens", units_per_sample=7)
    assert (result.steps, result.new_steps, result.interrupted) == (15, 15, False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 16))
    assert [line["epoch"] for line in lines] == [0] * 5 + [1] * 5 + [2] * 5
    assert {"loss", "grad_norm", "lr", "samples", "tokens_per_second", "seconds"} <= set(lines[0])
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert result.checkpoint == tmp_path / "checkpoint-00000015.safetensors"
    assert result.loss == lines[-1]["loss"]


def test_a_run_without_a_terminal_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    make(2).fit([batch(8)], steps=3)
    assert capfd.readouterr() == ("", "")


def test_a_loss_that_is_not_a_number_is_null_in_the_metrics(tmp_path: Path) -> None:
    x, y = batch(8)
    make(2).fit([(x * float("inf"), y)], steps=1, out=tmp_path)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["loss"] is None and line["grad_norm"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "expected one of fp32, bf16, fp16; got 'fp8'"),
        ({"clip": 0.0}, "clip must be a positive norm"),
        ({"accumulate": 0}, "accumulate must be at least 1"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(1, **options)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ((torch.ones(4, 3), torch.ones(5, 2)), ValueError, r"first dimensions \[4, 5\]"),
        ({"x": 1.0}, TypeError, "found no tensor with a first dimension"),
        (torch.ones(4, 3), ValueError, r"a batch is a tuple \(input, ..., target\)"),
    ],
)
def test_batches_that_cannot_be(bad: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(2).step(bad)


def test_devices_that_are_no_mesh() -> None:
    with pytest.raises(TypeError, match=r"fabric.mesh\('cpu:0'\) makes one, not a str"):
        DataParallel(nn.Linear(3, 2), "cpu:0")


def test_an_optimizer_of_another_model() -> None:
    model = DataParallel(nn.Linear(3, 2), cpu_mesh(2))
    other = torch.optim.AdamW(nn.Linear(3, 2).parameters())
    with pytest.raises(ValueError, match="parameters that are not in the model"):
        Trainer(model, other, nn.MSELoss())
    some = torch.optim.AdamW([model.module.weight])
    with pytest.raises(ValueError, match=r"1 trainable parameters are in no group.*as bias"):
        Trainer(model, some, nn.MSELoss())


def test_fit_needs_an_end_and_data() -> None:
    with pytest.raises(ValueError, match="give steps or epochs"):
        make(1).fit([batch(2)])
    with pytest.raises(ValueError, match="the loader gives no batch"):
        make(1).fit([], steps=1)
    with pytest.raises(ValueError, match="checkpoints need a folder"):
        make(1).fit([batch(2)], steps=1, checkpoint_every=1)
