"""Learning rate schedules: each sets the "lr" of every group as a function of the number of steps
taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from vibetensor import replay
from vibetensor.optim.optimizer import Optimizer

__all__ = [
    "CosineAnnealingLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "SequentialLR",
    "StepLR",
]


class LRScheduler:
    """Base class: `step()` counts on and sets each group's rate to `_rate(group's first rate, group
    index)`.

    Args:
        optimizer: whose groups are set; the rate is set once at once.
        last_epoch: the count to start at, -1 for a new run. Otherwise groups must have an
            "initial_lr".

    Raises:
        KeyError: `last_epoch` is given and a group has no "initial_lr".
    """

    _not_saved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    "param 'initial_lr' is not specified in "
                    f"param_groups[{i}] when resuming an optimizer"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def step(self) -> None:
        """Counts one step and sets the rates; in a captured step, at each replay."""
        replay.on_replay(self._advance)

    def _advance(self) -> None:
        self.last_epoch += 1
        for i, group in enumerate(self.optimizer.param_groups):
            group["lr"] = self._rate(self.base_lrs[i], i)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _rate(self, base: float, index: int) -> float:
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rates that were set last."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """All that changes, or was chosen, without the optimizer and without functions."""
        return {name: value for name, value in self.__dict__.items() if name not in self._not_saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict()` gave."""
        self.__dict__.update(state_dict)


class LambdaLR(LRScheduler):
    """The first rate times `lr_lambda(count)`; one function, or one for each group."""

    _not_saved = ("optimizer", "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"Expected {groups} lr_lambdas, but got {len(self.lr_lambdas)}")
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, index: int) -> float:
        return base * self.lr_lambdas[index](self.last_epoch)


class StepLR(LRScheduler):
    """The rate times `gamma` every `step_size` steps."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, index: int) -> float:
        return base * float(self.gamma ** (self.last_epoch // self.step_size))


class LinearLR(LRScheduler):
    """From `start_factor` to `end_factor` of the first rate within `total_iters` steps."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError("Starting multiplicative factor expected to be in (0, 1]")
        if not 0 <= end_factor <= 1:
            raise ValueError("Ending multiplicative factor expected to be in [0, 1]")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, index: int) -> float:
        done = min(self.last_epoch, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the first rate to `eta_min` within `T_max` steps, and back in the next."""

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, index: int) -> float:
        wave = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return self.eta_min + (base - self.eta_min) * wave


class SequentialLR:
    """One schedule after the other: the i-th starts, counting from 0, at `milestones[i - 1]`."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]
    ) -> None:
        if len(schedulers) != len(milestones) + 1:
            raise ValueError(
                f"expected one milestone fewer than schedulers, got {len(milestones)} for "
                f"{len(schedulers)} schedulers"
            )
        self.optimizer = optimizer
        self.schedulers = list(schedulers)
        self.milestones = list(milestones)
        self.last_epoch = -1
        self.step()

    def step(self) -> None:
        """Counts one step and sets the rates by the schedule whose turn it is; in a captured step,
        at each replay.
        """
        replay.on_replay(self._advance)

    def _advance(self) -> None:
        self.last_epoch += 1
        turn = sum(self.last_epoch >= milestone for milestone in self.milestones)
        scheduler = self.schedulers[turn]
        start = self.milestones[turn - 1] if turn else 0
        scheduler.last_epoch = self.last_epoch - start - 1
        scheduler._advance()

    def get_last_lr(self) -> list[float]:
        """The rates that were set last."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The count and the state of each schedule."""
        return {
            "last_epoch": self.last_epoch,
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict()` gave."""
        self.last_epoch = state_dict["last_epoch"]
        for scheduler, state in zip(self.schedulers, state_dict["schedulers"], strict=True):
            scheduler.load_state_dict(state)
