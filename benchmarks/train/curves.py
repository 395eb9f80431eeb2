"""Compares loss curves with PyTorch's: `python -m benchmarks.train.curves`.

Trains a workload for some steps from several seeds on each side, on the same batches; losses are
taken in float32 on both. Weights are drawn by each side's own generator, so single runs differ;
what must agree is the distribution; `RULE` says when it does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.train import loops
from benchmarks.train.cases import CASES, Case

WINDOW, LIMIT = 50, 2.0
RULE = (
    f"A window is the mean of {WINDOW} steps of one run. The spread of a window is the deviation "
    "between seeds, pooled over both sides. A case is within the noise if the last two windows' "
    f"mean losses of the sides differ by no more than {LIMIT:g} spreads, and the median over all "
    f"windows of that difference is no more than {LIMIT:g} spreads, too."
)


def main() -> int:
    """Trains, prints one JSON line a case."""
    parser = argparse.ArgumentParser(prog="benchmarks.train.curves", description=__doc__)
    parser.add_argument("cases", nargs="*", default=["minigpt bf16", "minigpt fp32", "reversal"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ours", default="captured", choices=loops.OURS)
    parser.add_argument("--theirs", default="torch eager", choices=loops.TORCH)
    parser.add_argument("--parallel", type=int, default=1, help="modes at once, each a process")
    parser.add_argument("--one", metavar="MODE", help="only this mode of one case, in this process")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cases = [
        case
        for case in CASES
        if not case.ranks and any(part in case.name for part in arguments.cases)
    ]
    if arguments.one:
        for seed in range(arguments.seeds):
            losses = loops.make(cases[0], arguments.one, seed, True).losses(arguments.steps)
            print(json.dumps(losses), flush=True)
        return 0
    from vibetensor.cli.provenance import provenance

    modes = (arguments.ours, arguments.theirs)
    head = {"benchmark": "curves", "steps": arguments.steps, "seeds": arguments.seeds}
    head |= {"ours": modes[0], "theirs": modes[1]}
    head["rule"] = {"window": WINDOW, "limit": LIMIT, "text": RULE}
    rows = []
    with ThreadPoolExecutor(arguments.parallel) as pool:
        runs = {
            (case.name, mode): pool.submit(_run, case, mode, arguments.seeds, arguments.steps)
            for case in cases
            for mode in modes
        }
        for case in cases:
            curves = {mode: np.array(runs[case.name, mode].result()) for mode in modes}
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


def _run(case: Case, mode: str, seeds: int, steps: int) -> list[list[float]]:
    """The losses [seeds, steps] of one mode, all in one process: its start takes longest."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.train.curves", case.name]
    command += ["--steps", str(steps), "--seeds", str(seeds), "--one", mode]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{case.name}, {mode}: {done.stderr[-1500:]}")
    seconds = time.monotonic() - start
    print(f"{case.name}, {mode}: {seeds} runs in {seconds:.1f} s", file=sys.stderr, flush=True)
    return [json.loads(line) for line in done.stdout.splitlines()[-seeds:]]


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
