"""Task: what an example gives to the trainer, and what it has to say at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from vibetensor import _C
from vibetensor.nn import Module


@dataclass(frozen=True)
class Task:
    """A model, its data and its loss.

    Attributes:
        model: not yet on any device but the CPU.
        loader: gives batches (input, target).
        loss_fn: of output and target, the mean over samples.
        report: what the trained model can do, by name, as plain values; given replica 0.
        summary: one line about model and data.
        unit, units_per_sample: what the speed counts.
    """

    model: Module
    loader: Iterable[Any]
    loss_fn: Callable[[_C.Tensor, _C.Tensor], _C.Tensor]
    report: Callable[[Module], dict[str, Any]]
    summary: str
    unit: str = "samples"
    units_per_sample: int = 1
