"""Times cuBLASLt's algorithms for the matrix products of training steps, writes the choices, and
compares steps with and without them.

`python -m benchmarks.train gpt2 minigpt vit --device cuda --tune-products FILE`. The packaged
tables, vibetensor/tuning/products-*.csv, are such files; `--compare-products` shows what they do.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.train import loops
from benchmarks.train.cases import Case


def tune(cases: list[Case], modes: list[str] | None, file: Path) -> None:
    """Tunes the products of each case and writes the file; rows that it has already stay.

    Prints each problem with the time of the heuristic's first algorithm, that of the choice, both
    in microseconds, and what was chosen; then a line of JSON about whole steps.
    """
    import vibetensor.torch as torch
    from vibetensor import _C

    tunable = torch.cuda.tunable
    tunable.packaged_enable(False)  # else known problems would not be timed
    tunable.set_filename(str(file))
    shown: set[tuple[str, str]] = set()
    for case in cases:
        if case.ranks:  # a trainer's; its products are those of one rank
            continue
        for mode in modes or ["fused"]:
            tunable.enable()
            start = time.perf_counter()
            loops.make(case, mode).run(4)  # the warm-up is eager
            tunable.tune_untuned()  # products that only the captured step has
            tunable.write_file()
            seconds = time.perf_counter() - start
            torch.cuda.empty_cache()
            rows = _C.tuned_products(torch.cuda.get_device_name())
            for op, params, solution, best, first in rows:
                if (op, params) in shown:
                    continue
                shown.add((op, params))
                how = " ".join(solution.split("_")[:-1])
                print(f"{first * 1e3:9.2f} {best * 1e3:9.2f}  {op} {params}  {how}", flush=True)
            tunable.tuning_enable(False)
            row = compare(case, mode, tunable.enable)
            tunable.tuning_enable()
            print(json.dumps({**row, "tuning_s": round(seconds, 1)}), flush=True)
    tunable.enable(False)


def compare(
    case: Case, mode: str, switch: Callable[[bool], None], rounds: int = 8, turn_ms: float = 400.0
) -> dict[str, Any]:
    """Milliseconds a step with the heuristic's first algorithms and with the choices, in turns.

    Args:
        switch: makes the choices count or not; steps keep what counted when they were captured.
    """
    sides = {}
    losses = {}
    for name, chosen in (("first", False), ("chosen", True)):
        switch(chosen)
        sides[name] = loops.make(case, mode)
        losses[name] = sides[name].losses(8)
    times: dict[str, list[float]] = {name: [] for name in sides}
    steps = 3
    for turn in range(rounds + 1):
        for name in sorted(sides, reverse=turn % 2 == 1):
            start = time.perf_counter()
            sides[name].run(steps)
            times[name].append((time.perf_counter() - start) / steps * 1e3)
        if turn == 0:  # shows how many steps fit
            steps = max(2, round(turn_ms / times["first"].pop()))
            times["chosen"].clear()
    ratios = [a / b for a, b in zip(times["first"], times["chosen"], strict=True)]
    apart = max(abs(a - b) for a, b in zip(losses["first"], losses["chosen"], strict=True))
    return {
        "case": case.name,
        "mode": mode,
        **{f"{name}_ms": round(statistics.median(each), 3) for name, each in times.items()},
        "ratio": round(statistics.median(ratios), 4),
        "losses_apart": round(apart, 5),
    }


def compare_packaged(cases: list[Case], modes: list[str] | None) -> None:
    """Prints a line of JSON a case: steps without and with the packaged table."""
    import vibetensor.torch as torch

    for case in cases:
        for mode in modes or ["fused"]:
            print(json.dumps(compare(case, mode, torch.cuda.tunable.packaged_enable)), flush=True)
            torch.cuda.empty_cache()
