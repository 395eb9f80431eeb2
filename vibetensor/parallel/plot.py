"""The picture of a run: loss over steps. The only place that knows matplotlib."""

from __future__ import annotations

import math
import os
from typing import Any

from vibetensor import io


def loss_curve(entries: list[dict[str, Any]], path: str | os.PathLike[str], title: str) -> None:
    """Draws the loss of each step, and its running mean, into a PNG.

    Args:
        entries: steps as in `metrics.jsonl`, each with "step" and "loss".
        path: where the picture goes; an old one is replaced when the new one is whole.
        title: what to write above it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [entry["step"] for entry in entries]
    losses = [entry["loss"] if entry["loss"] is not None else math.nan for entry in entries]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="tab:blue", alpha=0.35, linewidth=1, label="each step")
    axes.plot(steps, _smooth(losses), color="tab:blue", linewidth=2, label="running mean")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    with io.atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _smooth(values: list[float], share: float = 0.95) -> list[float]:
    """Exponential mean that starts unbiased; what is not a number is left out of it."""
    out = []
    mean = weight = 0.0
    for value in values:
        if math.isfinite(value):
            mean = share * mean + (1 - share) * value
            weight = share * weight + (1 - share)
        out.append(mean / weight if weight else math.nan)
    return out
