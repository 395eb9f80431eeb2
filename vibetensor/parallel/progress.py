"""The progress bar of a run. The only place that knows rich."""

from __future__ import annotations

import sys
from typing import Any

from vibetensor import _C


class ProgressBar:
    """One line with step, loss, gradient norm, learning rate, speed, memory and time left.

    Silent where stderr is not a terminal.

    Args:
        total: steps until the end, or None where that is not known.
        done: steps already taken.
        unit: what the speed counts.
        device: whose memory is shown.
        wanted: False shows nothing anywhere.
    """

    def __init__(
        self, total: int | None, done: int, unit: str, device: _C.device, wanted: bool = True
    ) -> None:
        self._unit = unit
        self._device = device
        self._bar: Any = None
        if not (wanted and sys.stderr.isatty()):
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        # On a narrow terminal the bar shrinks, never the numbers.
        count = "{task.completed}" if total is None else "{task.completed}/{task.total}"
        self._bar = Progress(
            TextColumn(count, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            console=Console(file=sys.stderr),
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("train", total=total, completed=done, note="starting")

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, entry: dict[str, Any], rate: float) -> None:
        """Moves to the step of a line of metrics; `rate` is in units a second."""
        if self._bar is None:
            return
        memory = _C.memory_stats(self._device)["allocated"]
        loss = float("nan") if entry["loss"] is None else entry["loss"]
        norm = float("nan") if entry["grad_norm"] is None else entry["grad_norm"]
        note = (
            f"loss {loss:.4f} norm {norm:.3f} lr {entry['lr']:.1e} "
            f"{_short(rate)} {self._unit}/s {_bytes(memory)}"
        )
        self._bar.update(self._task, completed=entry["step"], note=note)


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f}G" if count >= 2**30 else f"{count / 2**20:.0f}M"


def _short(number: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{letter}"
    return f"{number:.0f}"
