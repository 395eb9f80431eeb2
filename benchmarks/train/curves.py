"""Compares loss curves with PyTorch's: `python -m benchmarks.train.curves`.

Trains a workload for some steps from several seeds on each side, on the same batches; losses are
taken in float32 on both. Weights are drawn by each side's own generator, so single runs differ;
what must agree is the distribution. A window is the mean of 50 steps of one run. The spread of a
window is the deviation between seeds, pooled over both sides. A case is "within" if the last two
windows' mean losses of the sides differ by no more than 2 spreads, and the median over all windows
of that difference is no more than 2 spreads, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.train import loops
from benchmarks.train.cases import CASES, Case

WINDOW, LIMIT = 50, 2.0


def main() -> int:
    """Trains, prints one JSON line a case."""
    parser = argparse.ArgumentParser(prog="benchmarks.train.curves", description=__doc__)
    parser.add_argument("cases", nargs="*", default=["minigpt bf16", "minigpt fp32", "reversal"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ours", default="captured", choices=loops.OURS)
    parser.add_argument("--theirs", default="torch eager", choices=loops.TORCH)
    parser.add_argument("--parallel", type=int, default=1, help="runs at once, each a process")
    parser.add_argument("--one", nargs=2, metavar=("MODE", "SEED"), help="one run of one case")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cases = [
        case
        for case in CASES
        if not case.ranks and any(part in case.name for part in arguments.cases)
    ]
    if arguments.one:
        mode, seed = arguments.one
        print(json.dumps(loops.make(cases[0], mode, int(seed), True).losses(arguments.steps)))
        return 0
    from vibetensor.cli.provenance import provenance

    modes = (arguments.ours, arguments.theirs)
    head = {"benchmark": "curves", "steps": arguments.steps, "seeds": arguments.seeds}
    head |= {"ours": modes[0], "theirs": modes[1], "rule": {"window": WINDOW, "limit": LIMIT}}
    rows = []
    with ThreadPoolExecutor(arguments.parallel) as pool:
        runs = {
            (case.name, mode, seed): pool.submit(_run, case, mode, seed, arguments.steps)
            for case in cases
            for mode in modes
            for seed in range(arguments.seeds)
        }
        for case in cases:
            curves = {
                mode: np.array([runs[case.name, mode, s].result() for s in range(arguments.seeds)])
                for mode in modes
            }
            row = {"case": case.name, **_compare(*curves.values())}
            row["curves"] = {
                mode: [[round(x, 5) for x in curve[::20]] for curve in each.tolist()]
                for mode, each in curves.items()
            }
            print(json.dumps({k: v for k, v in row.items() if k != "curves"}), flush=True)
            rows.append(row)
            if arguments.out:
                found = {**head, **provenance(), "cases": rows}
                arguments.out.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return 0


def _run(case: Case, mode: str, seed: int, steps: int) -> list[float]:
    """The losses of one run, in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.train.curves", case.name]
    command += ["--steps", str(steps), "--one", mode, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{case.name}, {mode}, seed {seed}: {done.stderr[-1500:]}")
    losses: list[float] = json.loads(done.stdout.splitlines()[-1])
    return losses


def _compare(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Curves [seeds, steps] side by side, and the verdict."""
    count = ours.shape[1] // WINDOW * WINDOW
    a, b = (x[:, :count].reshape(x.shape[0], -1, WINDOW).mean(2) for x in (ours, theirs))
    last_a, last_b = (x[:, -2:].mean(1) for x in (a, b))

    def gap(x: np.ndarray, y: np.ndarray) -> Any:
        spread = np.sqrt((x.var(0, ddof=1) + y.var(0, ddof=1)) / 2)
        return np.abs(x.mean(0) - y.mean(0)) / np.maximum(spread, 1e-9)

    last, median = float(gap(last_a, last_b)), float(np.median(gap(a, b)))
    finite = bool(np.isfinite(ours).all() and np.isfinite(theirs).all())
    return {
        "verdict": "within" if finite and last <= LIMIT and median <= LIMIT else "outside",
        "last_gap_in_spreads": round(last, 3),
        "median_gap_in_spreads": round(median, 3),
        "largest_gap_in_spreads": round(float(gap(a, b).max()), 3),
        "last_ours": [round(float(x), 5) for x in last_a],
        "last_torch": [round(float(x), 5) for x in last_b],
        "largest_gap": round(float(np.abs(a.mean(0) - b.mean(0)).max()), 5),
    }


if __name__ == "__main__":
    sys.exit(main())
