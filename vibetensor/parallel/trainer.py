"""Trainer: one call a step for all devices, and the state that a run must keep to go on from it."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from vibetensor import _C, replay
from vibetensor.autograd import no_grad
from vibetensor.captured import CapturedStep
from vibetensor.fuse import Choice, Report, chosen
from vibetensor.optim.lr_scheduler import LRScheduler
from vibetensor.optim.optimizer import Optimizer
from vibetensor.parallel import batch as batches
from vibetensor.parallel import precision as precisions
from vibetensor.parallel import run
from vibetensor.parallel.rank_optimizers import optimizers_by_rank
from vibetensor.parallel.replicas import DataParallel
from vibetensor.parallel.step import StepMetrics
from vibetensor.structure import Placed

Tensor = _C.Tensor
Parts: TypeAlias = list[list[Placed]]  # for each part of an accumulated batch a shard a rank

_Scales: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor]

_FORMAT = 1
_log = logging.getLogger("vibetensor.trainer")


class Trainer:
    """Trains a `DataParallel` model.

    A step splits the batch over the ranks, runs forward on each, backward on all at once with the
    gradients summed meanwhile, clips, and updates every replica alike. The loss is the mean over
    the whole batch, so any number of devices gives the same curve up to rounding.

    Args:
        model: the replicas.
        optimizer: over `model.parameters()`; its state and options are those of every replica.
        loss_fn: of the model's output and the last entry of a batch, the mean over its samples.
            None where the model itself returns the loss, given the whole batch.
        precision: "fp32" (the model as it is), "bf16" or "fp16": parameters and activations in that
            type, with float32 master weights and optimizer state.
        clip: the largest norm of all gradients together; None for no limit.
        accumulate: cut a batch into that many parts, whose gradients are added up before the
            update.
        scheduler: stepped after each update.
        capture: replay the step as a CUDA graph once it is warm (see `vibetensor.capture`; the bits
            are those of an eager step): "auto" where that is possible, False never; True is an
            error where it is not possible.
        fuse: let the step compiler join kernels of a captured step, of every rank's part: True, or
            {name: False} to leave passes out (see `vibetensor.capture`). Steps that run eagerly
            are not touched.

    Raises:
        ValueError: an unknown precision, an optimizer over other parameters than the model's, a
            pass of the step compiler that does not exist, or capture=True with what cannot be
            captured.
    """

    def __init__(
        self,
        model: DataParallel,
        optimizer: Optimizer,
        loss_fn: Callable[[Any, Any], Tensor] | None = None,
        *,
        precision: str = "fp32",
        clip: float | None = None,
        accumulate: int = 1,
        scheduler: LRScheduler | None = None,
        capture: bool | str = "auto",
        fuse: Choice = False,
    ) -> None:
        if capture not in (True, False, "auto"):
            raise ValueError(f"capture must be True, False or 'auto', got {capture!r}")
        if accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {accumulate}")
        if clip is not None and not clip > 0:
            raise ValueError(f"clip must be a positive norm, got {clip}")
        self.model = model
        self.optimizer = optimizer
        self.loss_fn = loss_fn
        self.precision = precision
        self.clip = clip
        self.accumulate = accumulate
        self.scheduler = scheduler
        self.steps = 0
        self.samples = 0
        self._dtype = precisions.dtype_of(precision)
        self._loss_scale = precisions.LossScale(model.devices) if precision == "fp16" else None
        self._optimizers = optimizers_by_rank(model, optimizer, self._dtype)
        _seed_devices(model.devices)
        chosen(fuse)  # a wrong name is an error where nothing is captured, too
        self._captured = self._make_captured(capture, fuse)

    @property
    def replays(self) -> int:
        """How many steps were replays of a graph."""
        return 0 if self._captured is None else self._captured.replays

    def fuse_report(self) -> Report | None:
        """What the step compiler did in the last capture; None where there was none."""
        return None if self._captured is None else self._captured.report()

    def _make_captured(self, capture: bool | str, fuse: Choice) -> CapturedStep | None:
        if capture is False:
            return None
        reason = ""
        devices = self.model.devices
        if devices[0].type != "cuda":
            reason = f"the model is on {devices[0]}, whose operations run at once"
        if not reason:
            return CapturedStep(
                self._device_step, devices=devices, fuse=fuse, strict=capture is True
            )
        if capture is True:
            raise ValueError(f"Trainer: capture=True is not possible: {reason}")
        _log.info("steps run eagerly: %s", reason)
        return None

    # -- one step ----------------------------------------------------------------------------------

    def step(self, batch: Any) -> StepMetrics:
        """Trains on one batch.

        Args:
            batch: a tuple or list of tensors with samples along their first dimension, the inputs
                of the model and, last, what the loss compares with. Without a `loss_fn`, all of it
                goes to the model, a dict by keyword.

        Raises:
            ValueError: the batch has fewer samples than there are ranks (times `accumulate`).
            RuntimeError: the model or the loss failed; parameters are unchanged.
        """
        total = batches.size_of(batch)
        lr = float(self.optimizer.param_groups[0]["lr"])
        parts = self._split(batch)
        if self._captured is not None:
            losses, norm, overflow = self._join(self._captured(parts, total))
        else:
            losses, norm, overflow = self._train(parts, total)
        self.steps += 1
        self.samples += total
        if self.scheduler is not None:
            self.scheduler.step()
        return StepMetrics(
            self.steps, list(losses), self._shares(total), norm, lr=lr, samples=total,
            overflow=overflow,
        )  # fmt: skip

    def _split(self, batch: Any) -> Parts:
        devices = self.model.devices
        return [
            [
                Placed(shard, device)
                for (shard, _), device in zip(
                    batches.split(part, len(devices)), devices, strict=True
                )
            ]
            for part, _ in batches.split(batch, self.accumulate)
        ]

    def _device_step(self, parts: Parts, total: int) -> list[Tensor]:
        """What is captured of a step. For each device a float64 tensor of its losses, in order; the
        first one's ends with the norm and, in float16, whether gradients overflowed.
        """
        losses, *last = self._train(parts, total)
        kept = [*losses, *(number for number in last if number is not None)]
        return [
            _C.ops.stack([n.double() for n in kept if n.device == device])
            for device in dict.fromkeys(self.model.devices)
        ]

    def _join(self, numbers: list[Tensor]) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """The losses, part by part and rank by rank, and the rest of what `_device_step` gave."""
        devices = self.model.devices
        # Copies, because the next replay overwrites what this one returns.
        each = {tensor.device: list(tensor.clone().unbind(0)) for tensor in numbers}
        overflow = None if self._loss_scale is None else each[devices[0]].pop()
        norm = each[devices[0]].pop()
        left = {device: iter(found) for device, found in each.items()}
        losses = [next(left[device]) for _ in range(self.accumulate) for device in devices]
        return losses, norm, overflow

    def _train(self, parts: Parts, total: int) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """Forward, backward and update with `total` samples: the losses, the norm, and in float16
        whether gradients overflowed, 1 or 0.
        """
        losses: list[Tensor] = []
        self.model.zero_grad()
        shares = iter(self._shares(total))
        for i, shards in enumerate(parts):
            passed = [self._forward(rank, shard.value) for rank, shard in enumerate(shards)]
            weights = [next(shares) for _ in shards]
            losses += [loss.detach() for loss in passed]
            if self._loss_scale is not None:
                passed = [self._loss_scale.scale(loss) for loss in passed]
            self.model.backward(passed, weights, reduce=i + 1 == len(parts))
        norm, overflow = self._update()
        return losses, norm, overflow

    def _shares(self, total: int) -> list[float]:
        """The share of each loss of a step in its mean."""
        return [
            count / total
            for size in batches.sizes(total, self.accumulate)
            for count in batches.sizes(size, len(self.model.replicas))
        ]

    def _forward(self, rank: int, shard: Any) -> Tensor:
        replica, device = self.model.replicas[rank], self.model.devices[rank]
        shard = batches.to_device(shard, device, self._dtype)
        if self.loss_fn is None:
            if isinstance(shard, dict):
                loss = replica(**shard)
            elif isinstance(shard, (tuple, list)):
                loss = replica(*shard)
            else:
                loss = replica(shard)
        else:
            if not isinstance(shard, (tuple, list)) or len(shard) < 2:
                raise ValueError(
                    "step: with a loss_fn, a batch is a tuple (input, ..., target); got a "
                    f"{type(shard).__name__}"
                )
            loss = self.loss_fn(replica(*shard[:-1]), shard[-1])
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise ValueError(f"step: the loss must be a tensor with one element, got {loss!r}")
        return loss

    def _update(self) -> tuple[Tensor, Tensor | None]:
        """Clips and updates all replicas; the norm, and in float16 whether it overflowed."""
        with no_grad():
            norms = self._norms()
            scales: dict[int, _Scales] = {}
            for rank, norm in enumerate(norms):
                key = id(norm)
                if key not in scales:
                    scales[key] = self._scales(norm)
                self._follow(rank)
                if replay.recording() is not None:
                    replay.on_replay(functools.partial(self._follow, rank))
                factor, overflow, _ = scales[key]
                self._optimizers[rank].step(grad_scale=factor, found_inf=overflow)
            _, overflow, plain = scales[id(norms[0])]
            return plain, overflow

    def _norms(self) -> list[Tensor]:
        """The norm of the summed gradients for each rank, on its device; nothing waits for it."""
        found: dict[_C.device, Tensor] = {}
        norms: list[Tensor] = []
        for device, arenas in zip(self.model.devices, self.model.arenas, strict=True):
            if device not in found:
                if found and device.type == "cpu":  # the same bits; cheaper copied than computed
                    found[device] = norms[0].to(device)
                else:
                    squares = [_C.ops.sum_of_squares(arena.grad).float() for arena in arenas]
                    found[device] = _C.ops.stack(squares).sum().sqrt()
            norms.append(found[device])
        return norms

    def _scales(self, norm: Tensor) -> _Scales:
        """For the gradients on the norm's device: the factor that undoes the loss scale and clips,
        whether they overflowed, and their norm.
        """
        if self._loss_scale is not None:
            return self._loss_scale.update(norm, self.clip)
        if self.clip is None:
            return None, None, norm
        return (self.clip / (norm + 1e-6)).clamp(max=1.0), None, norm

    def _follow(self, rank: int) -> None:
        """Gives a replica's optimizer the options of the first, which a scheduler may have set."""
        if rank == 0:
            return
        groups = zip(self._optimizers[rank].param_groups, self.optimizer.param_groups, strict=True)
        for mine, first in groups:
            mine.update((name, value) for name, value in first.items() if name != "params")

    # -- a whole run -------------------------------------------------------------------------------

    def fit(
        self,
        loader: Iterable[Any],
        *,
        steps: int | None = None,
        epochs: int | None = None,
        out: str | os.PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        keep: int = 3,
        resume: bool | str | os.PathLike[str] = False,
        unit: str = "samples",
        units_per_sample: int = 1,
        progress: bool = True,
    ) -> run.FitResult:
        """Trains until a number of steps or epochs, Ctrl-C or SIGTERM.

        Args:
            loader: gives batches, anew for each epoch; `DataLoader`, or anything that gives the
                same batches after the same random state. One that has `state_dict` and
                `load_state_dict` is asked for its position instead.
            steps: stop when the trainer has done so many, those before a resume included.
            epochs: stop after so many passes over the loader.
            out: folder for checkpoints, `metrics.jsonl` and `loss.png`; None writes nothing.
            checkpoint_every: steps between checkpoints. One is written at the end in any case.
            keep: how many checkpoints stay.
            resume: True continues from the newest checkpoint in `out`, if there is one; or the path
                of a checkpoint.
            unit, units_per_sample: what the speed counts, as ("tokens", 128).
            progress: show a bar where stderr is a terminal.

        Returns:
            What happened, and where things are.

        Raises:
            ValueError: neither steps nor epochs; a checkpoint of another model.
            CheckpointError: the checkpoint is damaged.
            OSError: something cannot be written. The last checkpoint is intact.
        """
        return run.fit(
            self,
            loader,
            run.Plan(
                steps=steps,
                epochs=epochs,
                out=out,
                checkpoint_every=checkpoint_every,
                keep=keep,
                resume=resume,
                unit=unit,
                units_per_sample=units_per_sample,
                progress=progress,
            ),
        )

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, apart from the data, for any number of devices."""
        devices = list(dict.fromkeys(str(device) for device in self.model.devices))
        return {
            "format": _FORMAT,
            "steps": self.steps,
            "samples": self.samples,
            "precision": self.precision,
            "ranks": [str(device) for device in self.model.devices],
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "loss_scale": None if self._loss_scale is None else self._loss_scale.state_dict(),
            "random": {
                "cpu": _C.get_rng_state(_C.device("cpu:0")),
                "devices": [_C.get_rng_state(_C.device(device)) for device in devices],
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from what `state_dict` gave, on this trainer's devices.

        Raises:
            ValueError: the state is of another format, precision, model or optimizer.
        """
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise ValueError("the file holds no state of a Trainer; was it written by torch.save?")
        if state["precision"] != self.precision:
            raise ValueError(
                f"the checkpoint was trained in {state['precision']}, this trainer runs in "
                f"{self.precision}; give the same precision"
            )
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise ValueError(f"the checkpoint is of another model: {error}") from error
        for optimizer in self._optimizers:
            optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None and state["scheduler"] is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self._loss_scale is not None:
            self._loss_scale.load_state_dict(state["loss_scale"])
        self.steps, self.samples = int(state["steps"]), int(state["samples"])
        devices = list(dict.fromkeys(str(device) for device in self.model.devices))
        for device, numbers in zip(devices, state["random"]["devices"], strict=False):
            _C.set_rng_state(_C.device(device), numbers)
        _C.set_rng_state(_C.device("cpu:0"), state["random"]["cpu"])


def _seed_devices(devices: list[_C.device]) -> None:
    """Gives the second and later devices random numbers of their own, from the process's seed."""
    for i, device in enumerate(dict.fromkeys(devices)):
        if i > 0:
            _C.manual_seed(_C.initial_seed() + i, device)
