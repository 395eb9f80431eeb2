"""A whole training run: the loop around `Trainer.step`, and what it leaves on disk."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vibetensor.parallel import checkpoint, metrics, plot
from vibetensor.parallel.interrupt import Interrupt
from vibetensor.parallel.position import Position
from vibetensor.parallel.progress import ProgressBar
from vibetensor.parallel.step import StepMetrics

if TYPE_CHECKING:
    from vibetensor.parallel.trainer import Trainer

METRICS = "metrics.jsonl"
PLOT = "loss.png"

# How often numbers are read from the devices: reading waits for them, and a queue of steps is what
# keeps a GPU busy.
_READ_STEPS = 10


@dataclass(frozen=True)
class Plan:
    """The arguments of `Trainer.fit`, which explains them."""

    steps: int | None = None
    epochs: int | None = None
    out: str | os.PathLike[str] | None = None
    checkpoint_every: int | None = None
    keep: int = 3
    resume: bool | str | os.PathLike[str] = False
    unit: str = "samples"
    units_per_sample: int = 1
    progress: bool = True

    def __post_init__(self) -> None:
        if self.steps is None and self.epochs is None:
            raise ValueError("fit: give steps or epochs, or it would never end")
        for name in ("steps", "epochs", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"fit: {name} must be at least 1, got {value}")
        if self.out is None and (self.checkpoint_every is not None or self.resume is True):
            raise ValueError("fit: checkpoints need a folder; give out=")


@dataclass(frozen=True)
class FitResult:
    """How a run went.

    Attributes:
        steps: steps the trainer has done in all, and `new_steps` in this call.
        loss: of the last step, None if there was none.
        seconds, rate: time of this call in the loop, and units a second in it.
        signal: the signal that ended it early, None if it came to its end.
        resumed_from: the checkpoint it went on from.
        checkpoint, metrics, plot: what it left on disk, None without a folder.
    """

    steps: int
    new_steps: int
    loss: float | None
    seconds: float
    rate: float
    signal: int | None
    resumed_from: Path | None
    checkpoint: Path | None
    metrics: Path | None
    plot: Path | None

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the run."""
        return self.signal is not None


def fit(trainer: Trainer, loader: Iterable[Any], plan: Plan) -> FitResult:
    """What `Trainer.fit` does."""
    folder = None if plan.out is None else checkpoint.CheckpointFolder(plan.out, plan.keep)
    position = Position(loader)
    resumed_from = _resume(trainer, position, folder, plan)
    log = None
    if folder is not None:
        log = metrics.MetricsLog(folder.path / METRICS, trainer.steps)
    try:
        result = _loop(trainer, position, plan, folder, log)
    finally:
        if log is not None:
            log.close()
    picture = None
    if log is not None and (entries := metrics.read(log.path)):
        picture = log.path.with_name(PLOT)
        plot.loss_curve(entries, picture, f"{log.path.parent.name or log.path.parent}")
    return FitResult(
        **result,
        resumed_from=resumed_from,
        metrics=None if log is None else log.path,
        plot=picture,
    )


def _resume(
    trainer: Trainer,
    position: Position,
    folder: checkpoint.CheckpointFolder | None,
    plan: Plan,
) -> Path | None:
    if plan.resume is False:
        if folder is not None:
            folder.check_unused()
        return None
    if plan.resume is True:
        found = folder.load_newest() if folder is not None else None
        if found is None:
            return None
        path, state = found
    else:
        path = Path(plan.resume)
        state = checkpoint.load(path)
    if not isinstance(state, dict) or not {"trainer", "position"} <= state.keys():
        raise checkpoint.CheckpointError(f"{path}: not a checkpoint of a training run")
    try:
        trainer.load_state_dict(state["trainer"])
        position.load_state_dict(state["position"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return path


def _loop(
    trainer: Trainer,
    position: Position,
    plan: Plan,
    folder: checkpoint.CheckpointFolder | None,
    log: metrics.MetricsLog | None,
) -> dict[str, Any]:
    start_step, start_samples = trainer.steps, trainer.samples
    start = last_time = time.monotonic()
    last_samples = trainer.samples
    waiting: list[tuple[StepMetrics, int]] = []  # with the epoch
    loss: float | None = None
    saved: Path | None = None
    bar = ProgressBar(
        plan.steps, trainer.steps, plan.unit, trainer.model.devices[0], wanted=plan.progress
    )

    def read() -> None:
        """Reads the steps that are waiting, logs and shows them."""
        nonlocal loss, last_time, last_samples
        if not waiting:
            return
        entries = [_entry(step, epoch) for step, epoch in waiting]
        waiting.clear()
        now = time.monotonic()
        rate = (trainer.samples - last_samples) * plan.units_per_sample / max(now - last_time, 1e-9)
        last_time, last_samples = now, trainer.samples
        for entry in entries:
            entry[f"{plan.unit}_per_second"] = round(rate, 1)
            entry["seconds"] = round(now - start, 3)
        if log is not None:
            log.write(entries)
        bar.show(entries[-1], rate)
        loss = entries[-1]["loss"]

    def save() -> None:
        nonlocal saved
        if folder is not None:
            read()
            state = {"trainer": trainer.state_dict(), "position": position.state_dict()}
            saved = folder.save(trainer.steps, state)

    with Interrupt() as interrupt, bar:
        while interrupt.signal is None:
            if plan.steps is not None and trainer.steps >= plan.steps:
                break
            if plan.epochs is not None and position.epoch >= plan.epochs:
                break
            batch = position.next()
            if batch is None:
                continue
            waiting.append((trainer.step(batch), position.epoch))
            if len(waiting) >= _READ_STEPS or time.monotonic() - last_time > 0.5:
                read()
            if plan.checkpoint_every is not None and trainer.steps % plan.checkpoint_every == 0:
                save()
        read()
        seconds = time.monotonic() - start
        if saved is None or trainer.steps > int(saved.stem.rpartition("-")[2]):
            save()
    done = trainer.samples - start_samples
    return {
        "steps": trainer.steps,
        "new_steps": trainer.steps - start_step,
        "loss": loss,
        "seconds": seconds,
        "rate": done * plan.units_per_sample / max(seconds, 1e-9),
        "signal": interrupt.signal,
        "checkpoint": saved,
    }


def _entry(step: StepMetrics, epoch: int) -> dict[str, Any]:
    """One line of metrics; JSON has no nan, so what is not a number becomes null."""
    entry: dict[str, Any] = {"step": step.step, "epoch": epoch}
    entry["loss"] = step.loss if math.isfinite(step.loss) else None
    entry["grad_norm"] = step.grad_norm if math.isfinite(step.grad_norm) else None
    entry |= {"lr": step.lr, "samples": step.samples}
    if step.skipped:
        entry["skipped"] = True
    return entry
