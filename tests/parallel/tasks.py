"""The three models that curves are compared on, each with the batches of a whole run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

import vibetensor.torch as torch
from vibetensor import fabric, nn
from vibetensor.examples import digits, digits_models, gpt, text
from vibetensor.parallel import DataParallel, Trainer

STEPS = 200


@dataclass(frozen=True)
class Case:
    """A model by the name of its class, what it learns, and at which rate."""

    name: str
    module: ModuleType
    make: Callable[[Any], Any]  # of the module, ours or the one on PyTorch
    lr: float
    batch: int

    def model(self) -> nn.Module:
        """The model with its starting values, the same each time."""
        torch.manual_seed(7)
        return self.make(self.module)

    def batches(self, steps: int = STEPS) -> list[tuple[Any, Any]]:
        """(inputs, targets) of each step as arrays."""
        if self.module is gpt:
            corpus = text.read(None)[:200_000]
            windows = text.Windows(text.Vocabulary(corpus).encode(corpus), 32, self.batch, seed=3)
            source = iter(windows)
            return [tuple(t.numpy() for t in next(source)) for _ in range(steps)]
        images, classes, _, _ = (t.numpy() for t in digits.load())
        order = np.random.default_rng(11)
        picks = (order.permutation(len(classes))[: self.batch] for _ in range(steps))
        return [(images[pick], classes[pick]) for pick in picks]


def vocabulary_size() -> int:
    """Of the text that the GPTs here read."""
    return len(text.Vocabulary(text.read(None)[:200_000]))


CASES = {
    case.name: case
    for case in (
        Case("digits-mlp", digits_models, lambda m: m.MLP(), 1e-3, 66),
        Case("digits-vit", digits_models, lambda m: m.ViT(32, 4, 2), 1e-3, 30),
        Case("chargpt", gpt, lambda m: m.GPT(vocabulary_size(), 32, 32, 4, 2), 1e-3, 14),
    )
}


def curve(
    case: Case, mesh: fabric.Mesh, batches: list[tuple[Any, Any]], *, clip: float | None = 1.0,
    precision: str = "fp32", **options: Any,
) -> list[float]:  # fmt: skip
    """The losses of training a case on a mesh."""
    model = DataParallel(case.model(), mesh)
    trainer = Trainer(
        model, torch.optim.AdamW(model.parameters(), lr=case.lr), case.module.loss,
        clip=clip, precision=precision, **options,
    )  # fmt: skip
    metrics = [trainer.step(tuple(torch.from_numpy(array) for array in batch)) for batch in batches]
    return [step.loss for step in metrics]


def furthest(a: list[float], b: list[float]) -> float:
    """The largest relative distance between two curves."""
    first, second = np.array(a), np.array(b)
    return float(np.max(np.abs(first - second) / np.maximum(np.abs(first), np.abs(second))))
