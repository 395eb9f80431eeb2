"""Compares loss curves with PyTorch's: `python -m benchmarks.train.curves`.

Trains a workload for some steps from several seeds on each side, on the same batches. Weights are
drawn by each side's own generator, so single runs differ; what must agree is the distribution: the
gap between the two mean curves is given in units of the spread between seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.train import loops
from benchmarks.train.cases import CASES


def main() -> int:
    """Trains, prints one JSON line a case."""
    parser = argparse.ArgumentParser(prog="benchmarks.train.curves", description=__doc__)
    parser.add_argument("cases", nargs="*", default=["minigpt bf16", "minigpt fp32", "reversal"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ours", default="captured", choices=loops.OURS)
    parser.add_argument("--theirs", default="torch eager", choices=loops.TORCH)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    from vibetensor.cli.provenance import provenance

    rows = []
    for case in CASES:
        if case.ranks or not any(part in case.name for part in arguments.cases):
            continue
        curves = {
            mode: np.array(
                [
                    loops.make(case, mode, seed).losses(arguments.steps)
                    for seed in range(arguments.seeds)
                ]
            )
            for mode in (arguments.ours, arguments.theirs)
        }
        row = {"case": case.name, **_compare(*curves.values())}
        row["curves"] = {
            mode: [[round(x, 5) for x in curve[::20]] for curve in each.tolist()]
            for mode, each in curves.items()
        }
        print(json.dumps({k: v for k, v in row.items() if k != "curves"}), flush=True)
        rows.append(row)
    if arguments.out:
        head = {"benchmark": "curves", "steps": arguments.steps, "seeds": arguments.seeds}
        arguments.out.write_text(json.dumps({**head, **provenance(), "cases": rows}) + "\n")
    return 0


def _compare(ours: np.ndarray, theirs: np.ndarray, window: int = 50) -> dict[str, Any]:
    """Curves [seeds, steps], averaged over windows of steps."""
    count = ours.shape[1] // window * window
    a, b = (x[:, :count].reshape(x.shape[0], -1, window).mean(2) for x in (ours, theirs))
    spread = np.sqrt((a.var(0, ddof=1) + b.var(0, ddof=1)) / a.shape[0])
    gap = np.abs(a.mean(0) - b.mean(0))
    return {
        "last_ours": [round(float(x), 5) for x in a[:, -1]],
        "last_torch": [round(float(x), 5) for x in b[:, -1]],
        "largest_gap": round(float(gap.max()), 5),
        "median_gap_in_spreads": round(float(np.median(gap / np.maximum(spread, 1e-9))), 3),
        "largest_gap_in_spreads": round(float((gap / np.maximum(spread, 1e-9)).max()), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
