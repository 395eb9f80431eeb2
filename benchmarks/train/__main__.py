"""Times whole training steps against PyTorch eager: `python -m benchmarks.train`. One process.

Both sides train the same model from the same weights, turn by turn, so that a slow moment of the
machine meets both; the ratio of a case is the median over turns of ours to theirs. Prints one JSON
line a case.
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

from benchmarks.train.cases import CASES, ours, theirs


def main() -> int:
    """Runs the cases of one kind of device."""
    parser = argparse.ArgumentParser(prog="benchmarks.train", description=__doc__)
    parser.add_argument("cases", nargs="*", help="parts of names of cases; all by default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="threads of both sides on a CPU")
    parser.add_argument("--rounds", type=int, default=7, help="turns that each side takes")
    parser.add_argument("--round-seconds", type=float, default=1.0, help="length of a turn")
    parser.add_argument("--out", type=Path, help="file for the result and facts about the machine")
    arguments = parser.parse_args()

    import torch

    from vibetensor import _C
    from vibetensor.cli.provenance import provenance

    threads = arguments.threads or _C.get_num_threads()
    torch.set_num_threads(threads)
    _C.set_num_threads(threads)
    rows = []
    for case in CASES:
        chosen = not arguments.cases or any(part in case.name for part in arguments.cases)
        if not chosen or case.device != arguments.device:
            continue
        sides = [ours(case), theirs(case)]
        row = {"case": case.name, **_measure(sides, arguments.rounds, arguments.round_seconds)}
        row["tokens_per_second"] = round(case.batch * case.context / row["ours_ms"] * 1e3)
        print(json.dumps(row), flush=True)
        rows.append(row)
    if arguments.out:
        head = {"benchmark": "train", "torch": torch.__version__, "threads": threads}
        result = {**head, **provenance(), "cases": rows}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _measure(sides: list[Callable[[int], None]], rounds: int, seconds: float) -> dict[str, Any]:
    counts = []
    for run in sides:
        run(3)  # warm: libraries opened, memory reserved, algorithms chosen
        counts.append(max(1, round(seconds / _time(run, 2))))
    times: list[list[float]] = [[], []]
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            times[side].append(_time(sides[side], counts[side]))
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    return {
        "ours_ms": round(statistics.median(times[0]) * 1e3, 3),
        "torch_ms": round(statistics.median(times[1]) * 1e3, 3),
        "ratio": round(ratio, 3),
    }


def _time(run: Callable[[int], None], steps: int) -> float:
    start = time.perf_counter()
    run(steps)
    return (time.perf_counter() - start) / steps


if __name__ == "__main__":
    sys.exit(main())
