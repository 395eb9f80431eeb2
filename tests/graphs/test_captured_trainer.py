"""Trainer(capture=...): runs of captured steps have the bits, metrics and files of eager ones."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import fabric, nn
from vibetensor.examples import gpt
from vibetensor.parallel import DataParallel, Trainer

cuda = pytest.mark.cuda


class Net(nn.Module):
    """A GPT with dropout before its head."""

    def __init__(self) -> None:
        super().__init__()
        self.gpt = gpt.GPT(50, 16, 32, 4, 2)
        self.drop = nn.Dropout(0.1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.drop(self.gpt(ids)).float()


def loss_of(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits.reshape(-1, 50), target.reshape(-1))


def trainer(mesh: fabric.Mesh | None = None, **options: Any) -> Trainer:
    torch.manual_seed(5)
    model = DataParallel(Net(), mesh or fabric.mesh("cuda:0"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    return Trainer(model, optimizer, loss_of, clip=0.5, scheduler=schedule, **options)


def batches(sizes: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    numbers = np.random.default_rng(9)
    ids = [numbers.integers(0, 50, (size, 17)) for size in sizes]
    return [(torch.from_numpy(a[:, :-1].copy()), torch.from_numpy(a[:, 1:].copy())) for a in ids]


def run(sizes: list[int], **options: Any) -> tuple[list[tuple[float, ...]], list[np.ndarray], int]:
    own = trainer(**options)
    metrics = [own.step(batch) for batch in batches(sizes)]
    numbers = [(m.loss, m.grad_norm, m.lr, m.samples, m.step) for m in metrics]
    params = [np.array(p.detach().float().cpu()) for p in own.model.parameters()]
    return numbers, params, own.replays


@cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_captured_run_has_the_bits_of_an_eager_one(precision: str, accumulate: int) -> None:
    sizes = [8] * 6 + [5] * 3 + [8] * 11
    options = {"precision": precision, "accumulate": accumulate}
    eager = run(sizes, capture=False, **options)
    captured = run(sizes, capture=True, **options)
    again = run(sizes, **options)
    assert eager[2] == 0
    assert captured[2] == again[2] == 17
    assert eager[0] == captured[0] == again[0]
    for a, b in zip(eager[1], captured[1], strict=True):
        assert np.array_equal(a, b)


@cuda
def test_a_resumed_captured_run_has_the_bits_of_one_run(tmp_path: Path) -> None:
    def fit(folder: Path, stops: list[int], capture: bool) -> list[np.ndarray]:
        for stop in stops:
            own = trainer(precision="bf16", capture=capture)
            own.fit(batches([8] * 4), steps=stop, out=folder, resume=True, progress=False)
        return [np.array(p.detach().float().cpu()) for p in own.model.parameters()]

    whole = fit(tmp_path / "a", [20], True)
    for other in (fit(tmp_path / "b", [7, 20], True), fit(tmp_path / "c", [20], False)):
        for a, b in zip(whole, other, strict=True):
            assert np.array_equal(a, b)


@cuda
def test_evaluation_between_steps_sees_the_parameters_of_then() -> None:
    def train(capture: bool) -> list[float]:
        own = trainer(capture=capture)
        found = []
        for i, (x, y) in enumerate(batches([8] * 12)):
            own.step((x, y))
            if i % 4 == 3:
                own.model.eval()
                with torch.no_grad():
                    found.append(float(loss_of(own.model(x.cuda()), y.cuda())))
                own.model.train()
        assert own.replays == (10 if capture else 0)
        return found

    assert train(True) == train(False)


@pytest.mark.parametrize(
    "devices",
    [
        pytest.param(["cuda:0"] * 2, marks=cuda),
        pytest.param(["cuda:0"] * 4, marks=cuda),
        pytest.param(["cuda:0", "cuda:1"], marks=pytest.mark.cuda(devices=2)),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_captured_ranks_have_the_bits_of_eager_ones(
    devices: list[str], precision: str, accumulate: int
) -> None:
    sizes = [16] * 6 + [13] * 3 + [16] * 11
    mesh = fabric.mesh(devices)
    options = {"precision": precision, "accumulate": accumulate}
    eager = run(sizes, mesh=mesh, capture=False, **options)
    captured = run(sizes, mesh=mesh, capture=True, **options)
    assert eager[2] == 0
    assert captured[2] == 17
    assert eager[0] == captured[0]
    for a, b in zip(eager[1], captured[1], strict=True):
        assert np.array_equal(a, b)


# Passes that promise the bits of the eager step; the others round less often.
EXACT = ["pointwise", "casts", "fills", "dead_work", "add_norm"]


@pytest.mark.parametrize(
    "devices",
    [
        pytest.param(["cuda:0"], marks=cuda),
        pytest.param(["cuda:0"] * 2, marks=cuda),
        pytest.param(["cuda:0", "cuda:1"], marks=pytest.mark.cuda(devices=2)),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fused_captured_ranks_have_the_bits_of_eager_ones(
    devices: list[str], precision: str
) -> None:
    sizes = [16] * 6 + [13] * 3 + [16] * 5
    options = {"mesh": fabric.mesh(devices), "precision": precision}
    eager = run(sizes, capture=False, **options)
    fused = run(sizes, capture=True, fuse=EXACT, **options)
    assert fused[2] == 11
    assert eager[0] == fused[0]
    for a, b in zip(eager[1], fused[1], strict=True):
        assert np.array_equal(a, b)


@cuda
def test_all_passes_find_work_in_forward_and_backward_of_a_trainer() -> None:
    eager, fused = trainer(precision="bf16", capture=False), trainer(precision="bf16", fuse=True)
    losses = [(eager.step(b).loss, fused.step(b).loss) for b in batches([8] * 8)]
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=2e-2)
    report = fused.fuse_report()
    assert report is not None and report.failure == ""
    assert report.rewrites["norm_backward_add"] > 0 and report.launched < report.recorded


def test_a_wrong_pass_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="no pass named"):
        trainer(fabric.parse_devices("cpu:1"), fuse=["pointwize"])


@pytest.mark.cuda(devices=2)
def test_a_batch_on_a_gpu_is_cut_over_captured_ranks() -> None:
    mesh, given = fabric.mesh(["cuda:0", "cuda:1"]), batches([8] * 6)
    plain = trainer(mesh, capture=False)
    losses = [plain.step(batch).loss for batch in given]
    captured = trainer(mesh, capture=True)  # draws the same random numbers, from the start
    for batch, loss in zip(given, losses, strict=True):
        there = tuple(t.cuda() for t in batch)
        torch.cuda.synchronize()
        assert captured.step(there).loss == loss
    assert captured.replays == 4


@cuda
def test_replicas_of_captured_ranks_stay_equal_when_the_rate_changes() -> None:
    own = trainer(fabric.mesh("cuda:0", ranks=2), capture=True)
    for i, batch in enumerate(batches([8] * 8)):
        own.optimizer.param_groups[0]["weight_decay"] = 0.01 * i
        own.step(batch)
    first, second = (list(replica.parameters()) for replica in own.model.replicas)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(np.array(a.detach().cpu()), np.array(b.detach().cpu()))
    assert own.replays == 6


@cuda
def test_fp16_is_captured() -> None:
    own = trainer(precision="fp16", capture=True)
    for batch in batches([8] * 6):
        own.step(batch)
    assert own.replays == 4


def test_on_cpu_devices_steps_run_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    mesh = fabric.mesh("cpu:0")
    with caplog.at_level(logging.INFO, "vibetensor.trainer"):
        own = trainer(mesh)
    assert "cpu:0" in caplog.records[0].getMessage()
    first = own.step(batches([8])[0])
    assert first.loss > 0
    assert own.replays == 0
    with pytest.raises(ValueError, match="capture=True is not possible"):
        trainer(mesh, capture=True)
    with pytest.raises(ValueError, match="'auto'"):
        trainer(mesh, capture="always")
