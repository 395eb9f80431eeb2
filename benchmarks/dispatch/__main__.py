"""Times single calls against PyTorch: `python -m benchmarks.dispatch`. One core, one process.

Both sides take turns, round by round, so that a slow moment of the machine meets both; the ratio of
a case is the median over rounds of ours to theirs. Prints one JSON line a case. With --device cuda
it is the host's time: both devices are idle at the start of a turn, and a turn is so short that the
queue of launches does not fill up.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def main() -> int:
    """Runs the cases asked for; 1 if a goal is missed and --check is given."""
    parser = argparse.ArgumentParser(prog="benchmarks.dispatch", description=__doc__)
    parser.add_argument("cases", nargs="*", help="parts of names of cases; all by default")
    parser.add_argument("--rounds", type=int, default=25, help="turns that each side takes")
    parser.add_argument("--round-ms", type=float, default=5.0, help="length of a turn")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--core", type=int, default=None, help="the core to stay on")
    parser.add_argument("--out", type=Path, help="file for the result and facts about the machine")
    parser.add_argument("--check", action="store_true", help="fail where a goal is missed")
    arguments = parser.parse_args()

    # Before the imports: both libraries look at the cores they may use when they load.
    core = min(os.sched_getaffinity(0)) if arguments.core is None else arguments.core
    os.sched_setaffinity(0, {core})
    import torch

    import vibetensor.torch as ours

    torch.set_num_threads(1)
    ours.set_num_threads(1)

    from benchmarks.dispatch.cases import CASES

    chosen = [c for c in CASES if not arguments.cases or any(a in c.name for a in arguments.cases)]
    seconds, device = arguments.round_ms / 1e3, arguments.device
    rows = []
    for case in chosen:
        rows.append(_measure(case, ours, torch, arguments.rounds, seconds, device))
        print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        facts = _facts(torch.__version__, ours, device)
        arguments.out.write_text(json.dumps({**facts, "cases": rows}, indent=1) + "\n")
    missed = [row["case"] for row in rows if row["ratio"] > row["goal"]]
    if missed:
        print(f"above their goal: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed and arguments.check else 0


LAUNCHES = 256  # statements of a turn on a GPU: fewer than its queue holds, even of MLP steps


def _measure(
    case: Any, ours: Any, theirs: Any, rounds: int, seconds: float, device: str
) -> dict[str, Any]:
    from benchmarks.dispatch.cases import CHAIN, prepare

    on_gpu = device == "cuda"
    sides = [prepare(case, ours, device), prepare(case, theirs, device)]
    if on_gpu:
        # A step launches about as many kernels as the chain has nodes.
        many = case.per > 1 or "step" in case.name
        counts = [LAUNCHES // (CHAIN if many else 1)] * 2
        for run in sides:
            run(2 * LAUNCHES)
    else:
        counts = [_count(run, seconds) for run in sides]
    times: list[list[float]] = [[], []]
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                if on_gpu:
                    ours.cuda.synchronize()
                    theirs.cuda.synchronize()
                times[side].append(_time(sides[side], counts[side]))
    finally:
        gc.enable()
    ns = [statistics.median(t) * 1e9 / case.per for t in times]
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    return {
        "case": case.name,
        "ours_ns": round(ns[0], 1),
        "torch_ns": round(ns[1], 1),
        "ratio": round(ratio, 3),
        "goal": 0.5 if on_gpu else case.goal,
    }


def _count(run: Any, seconds: float) -> int:
    run(10)
    n = 10
    while (t := _time(run, n) * n) < seconds / 4:
        n *= 4
    return max(1, int(n * seconds / t))


def _time(run: Any, n: int) -> float:
    # Time of this process, not of the clock: what else runs on the core does not count.
    start = time.process_time()
    run(n)
    return (time.process_time() - start) / n


def _facts(torch_version: str, ours: Any, device: str) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "benchmark": "dispatch",
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "cpu": names[0] if names else platform.machine(),
        "device": ours.cuda.get_device_name() if device == "cuda" else "cpu",
        "python": platform.python_version(),
        "torch": torch_version,
    }


if __name__ == "__main__":
    sys.exit(main())
