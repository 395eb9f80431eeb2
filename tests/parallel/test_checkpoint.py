"""Checkpoints: what they hold, which stay, on how many devices they load, and damaged ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import fabric, nn
from vibetensor.data import DataLoader, Generator, TensorDataset
from vibetensor.parallel import CheckpointError, CheckpointFolder, DataParallel, Trainer, metrics


def make_trainer(ranks: int = 2, *, width: int = 8, precision: str = "fp32") -> Trainer:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, width), nn.Dropout(0.3), nn.ReLU(), nn.Linear(width, 2))
    model = DataParallel(net, fabric.mesh([f"cpu:{rank}" for rank in range(ranks)]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    return Trainer(
        model, optimizer, nn.CrossEntropyLoss(), precision=precision, clip=1.0, scheduler=schedule
    )


def make_loader(*, own_generator: bool = False, workers: int = 0) -> DataLoader:
    inputs = np.random.default_rng(0).standard_normal((52, 4)).astype(np.float32)
    dataset = TensorDataset(
        torch.from_numpy(inputs), torch.from_numpy((inputs.sum(1) > 0).astype(np.int64))
    )
    generator = Generator().manual_seed(9) if own_generator else None
    return DataLoader(dataset, 8, shuffle=True, generator=generator, num_workers=workers)


def weights(trainer: Trainer) -> bytes:
    return b"".join(
        p.detach().float().numpy().tobytes()
        for rank in range(len(trainer.model.replicas))
        for p in trainer.model.replicas[rank].parameters()
    )


def final(path: Path, steps: list[int], **loader: Any) -> tuple[bytes, list[float]]:
    """Trains in as many processes' worth of trainers as there are stops."""
    trainer = make_trainer()
    for stop in steps:
        trainer = make_trainer()
        trainer.fit(make_loader(**loader), steps=stop, out=path, resume=True)
    return weights(trainer), [entry["loss"] for entry in metrics.read(path / "metrics.jsonl")]


@pytest.mark.parametrize(
    "loader", [{}, {"own_generator": True}, {"workers": 2}], ids=["seed", "generator", "threads"]
)
def test_resuming_gives_the_bits_of_one_run(tmp_path: Path, loader: dict[str, Any]) -> None:
    # 7 batches an epoch: stops inside an epoch, at the end of one, and right after.
    whole = final(tmp_path / "whole", [23], **loader)
    for stops in ([3, 23], [7, 23], [8, 14, 15, 23]):
        assert final(tmp_path / f"{stops}", stops, **loader) == whole


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_resuming_in_16_bits(tmp_path: Path, precision: str) -> None:
    ends = []
    for stops in ([10], [4, 10]):
        for stop in stops:
            trainer = make_trainer(precision=precision)
            trainer.fit(make_loader(), steps=stop, out=tmp_path / f"{stops}", resume=True)
        ends.append(weights(trainer))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_file_of_four_devices_loads_on_fewer(tmp_path: Path, ranks: int) -> None:
    first = make_trainer(4)
    first.fit(make_loader(), steps=5, out=tmp_path)
    second = make_trainer(ranks)
    result = second.fit(make_loader(), steps=5, out=tmp_path, resume=True)
    assert result.new_steps == 0
    size = len(weights(second)) // ranks
    assert weights(second) == weights(first)[:size] * ranks
    third = second.fit(make_loader(), steps=9, out=tmp_path, resume=True)
    assert third.new_steps == 4


def test_the_newest_few_stay(tmp_path: Path) -> None:
    make_trainer().fit(make_loader(), steps=10, out=tmp_path, checkpoint_every=2, keep=2)
    names = [path.name for path in CheckpointFolder(tmp_path).paths()]
    assert names == ["checkpoint-00000008.safetensors", "checkpoint-00000010.safetensors"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint-00000005.safetensors.abc.tmp").write_bytes(b"half")
    CheckpointFolder(tmp_path).save(6, {"value": 1})
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint-00000006.safetensors"]


def test_a_line_of_metrics_that_was_cut_is_written_again(tmp_path: Path) -> None:
    make_trainer().fit(make_loader(), steps=6, out=tmp_path)
    whole = [entry["loss"] for entry in metrics.read(tmp_path / "metrics.jsonl")]
    path = tmp_path / "again"
    make_trainer().fit(make_loader(), steps=3, out=path)
    with open(path / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 4, "loss": 0.1}\n{"step": 5, "lo')
    make_trainer().fit(make_loader(), steps=6, out=path, resume=True)
    assert [entry["loss"] for entry in metrics.read(path / "metrics.jsonl")] == whole


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"value": 1})
    newest = folder.save(2, {"value": 2})
    newest.write_bytes(newest.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="checkpoint-00000002.*trying the checkpoint before"):
        found = folder.load_newest()
    assert found is not None and found[1] == {"value": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too short for any"),
        (b"#!/bin/sh\necho no\n" * 10, "does not start like a safetensors file"),
        (None, "cut short"),
    ],
    ids=["empty", "script", "cut"],
)
def test_a_file_that_is_no_checkpoint(tmp_path: Path, content: bytes | None, message: str) -> None:
    trainer = make_trainer()
    saved = trainer.fit(make_loader(), steps=1, out=tmp_path).checkpoint
    assert saved is not None
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(saved.read_bytes()[:-100] if content is None else content)
    with pytest.raises(CheckpointError, match=message):
        make_trainer().fit(make_loader(), steps=2, resume=bad)


def test_what_else_cannot_be_resumed(tmp_path: Path) -> None:
    saved = make_trainer().fit(make_loader(), steps=1, out=tmp_path).checkpoint
    assert saved is not None
    with pytest.raises(ValueError, match=r"(?s)another model.*size mismatch"):
        make_trainer(width=9).fit(make_loader(), steps=2, resume=saved)
    with pytest.raises(ValueError, match=r"trained in fp32, this trainer runs in bf16"):
        make_trainer(precision="bf16").fit(make_loader(), steps=2, resume=saved)
    with pytest.raises(ValueError, match=r"has checkpoints of an earlier run"):
        make_trainer().fit(make_loader(), steps=2, out=tmp_path)
    with pytest.raises(FileNotFoundError):
        make_trainer().fit(make_loader(), steps=2, resume=tmp_path / "missing.safetensors")
    torch.save({"a": 1}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint of a training run"):
        make_trainer().fit(make_loader(), steps=2, resume=tmp_path / "other.safetensors")
