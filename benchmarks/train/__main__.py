"""Times whole training steps against PyTorch: `python -m benchmarks.train`. One process.

Every side trains the same model from the same seed, turn by turn, so that a slow moment of the
machine meets all; a ratio is the median over turns of one side's time to another's. Prints one
JSON line a case.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.train import loops, products
from benchmarks.train.cases import CASES, Case

_PEAK_BF16 = 989.4e12  # dense FLOP/s of an H100 SXM or H200 by their datasheets


def main() -> int:
    """Runs the cases of one kind of device."""
    parser = argparse.ArgumentParser(prog="benchmarks.train", description=__doc__)
    parser.add_argument("cases", nargs="*", help="parts of names of cases; all by default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--modes", nargs="*", help="sides to run; all that the device has by default"
    )
    parser.add_argument("--threads", type=int, help="threads of both sides on a CPU")
    parser.add_argument("--rounds", type=int, default=7, help="turns that each side takes")
    parser.add_argument("--round-seconds", type=float, default=1.0, help="length of a turn")
    parser.add_argument("--out", type=Path, help="file for the result and facts about the machine")
    parser.add_argument(
        "--tune-products",
        type=Path,
        metavar="FILE",
        help="time the matrix products of the steps instead, and write the best algorithms",
    )
    parser.add_argument(
        "--compare-products",
        action="store_true",
        help="time steps without and with the packaged table of products instead",
    )
    arguments = parser.parse_args()

    import torch

    from vibetensor import _C
    from vibetensor.cli.provenance import provenance

    threads = arguments.threads or _C.get_num_threads()
    torch.set_num_threads(threads)
    _C.set_num_threads(threads)
    chosen = [
        case
        for case in CASES
        if case.device == arguments.device
        and (not arguments.cases or any(part in case.name for part in arguments.cases))
    ]
    if arguments.tune_products:
        products.tune(chosen, arguments.modes, arguments.tune_products)
        return 0
    if arguments.compare_products:
        products.compare_packaged(chosen, arguments.modes)
        return 0
    rows = []
    for case in chosen:
        row = _row(case, arguments.modes or _modes(case), arguments.rounds, arguments.round_seconds)
        print(json.dumps(row), flush=True)
        rows.append(row)
    if arguments.out:
        head = {"benchmark": "train", "torch": torch.__version__, "threads": threads}
        result = {**head, **provenance(), "cases": rows}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _modes(case: Case) -> list[str]:
    if case.ranks:
        return ["trainer", "torch eager"]
    ours = [mode for mode in loops.OURS if case.device == "cuda" or mode != loops.ANY_ORDER]
    return [*ours, *loops.TORCH]


def _row(case: Case, modes: list[str], rounds: int, seconds: float) -> dict[str, Any]:
    sides: dict[str, loops.Loop] = {}
    failed = {}
    warm: dict[str, int] = {}
    for mode in modes:
        try:
            side = loops.make(case, mode)
            side.reset()
            side.run(5)  # libraries opened, memory reserved, algorithms chosen, steps captured
            warm[mode] = side.peak()
            sides[mode] = side
        except Exception as error:  # a side that cannot run is a result too
            failed[mode] = f"{type(error).__name__}: {str(error)[:500]}"
    times = _times(sides, rounds, seconds)
    row: dict[str, Any] = {"case": case.name}
    units, unit = case.units
    for mode, taken in times.items():
        median = statistics.median(taken)
        row[mode] = {
            "ms": round(median * 1e3, 3),
            f"{unit}_per_second": round(units / median),
            "peak_mib": warm[mode] >> 20,
        }
        if case.flops and case.precision == "bf16":
            row[mode]["mfu"] = round(case.flops / median / _PEAK_BF16, 4)
    row["ratios"] = {  # above 1: ours is faster
        f"{theirs} / {ours}": round(
            statistics.median(a / b for a, b in zip(times[theirs], times[ours], strict=True)), 3
        )
        for ours in times
        if not ours.startswith("torch")
        for theirs in times
        if theirs.startswith("torch")
    }
    return {**row, "failed": failed} if failed else row


def _times(sides: dict[str, loops.Loop], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds a step in each turn of each side."""
    counts = {mode: max(1, round(seconds / _time(side.run, 2))) for mode, side in sides.items()}
    times: dict[str, list[float]] = {mode: [] for mode in sides}
    order = list(sides)
    for _ in range(rounds):
        for mode in order:
            times[mode].append(_time(sides[mode].run, counts[mode]))
        order.reverse()
    return times


def _time(run: Callable[[int], None], steps: int) -> float:
    start = time.perf_counter()
    run(steps)
    return (time.perf_counter() - start) / steps


if __name__ == "__main__":
    sys.exit(main())
