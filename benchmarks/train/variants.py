"""Times variants of our step against each other: `python -m benchmarks.train.variants CASE ...`.

Each variant is a process of its own that trains the same case from the same seed; they take turns,
so all meet the GPU as warm and as slowed down by its power limit as the others. A ratio is the
median over turns. Variants are JSON objects by name, `--variant NAME JSON`, with

- "mode": "fused" if not given, or another side of `benchmarks.train`
- "fuse": passes, as `vibetensor.capture` takes them
- "autocast": float32 parameters in a region of autocast, in place of the case's own
- "any_order": may gradients be added up in any order?
- "rows": a file of choices of products (docs/tunable.md); "only": those whose problem starts so
- "packaged": does the packaged table of products count?
- "products": "cublaslt" for no product by the kernels made here
- "env": environment switches
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.train.cases import CASES, Case


def main() -> int:
    """Prints a line of JSON with the times of all variants."""
    parser = argparse.ArgumentParser(prog="benchmarks.train.variants", description=__doc__)
    parser.add_argument("case", help="the start of a case's name")
    parser.add_argument("--variant", nargs=2, action="append", default=[], metavar=("NAME", "JSON"))
    parser.add_argument("--seconds", type=float, default=40.0, help="for all of it")
    parser.add_argument("--steps", type=int, default=8, help="of a turn")
    parser.add_argument("--out", type=Path, help="file for the result and facts about the machine")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    case = next(case for case in CASES if case.name.startswith(arguments.case))
    if arguments.worker:
        _work(case, json.loads(arguments.worker))
        return 0
    specs = {"fused": {}, **{name: json.loads(text) for name, text in arguments.variant}}
    row = _compare(case, specs, arguments.steps, time.time() + arguments.seconds)
    print(json.dumps(row), flush=True)
    if arguments.out:
        from vibetensor.cli.provenance import provenance

        result = {"benchmark": "variants of a step", **provenance(), **row}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(any("failed" in each for each in row["variants"].values()))


def _compare(case: Case, specs: dict[str, Any], steps: int, end: float) -> dict[str, Any]:
    """The first of `specs` is what the others are compared to."""
    workers = {name: _start(case, spec) for name, spec in specs.items()}
    found: dict[str, dict[str, Any]] = {}
    for name, worker in list(workers.items()):
        line = worker.stdout.readline()  # losses of the first steps, and the most memory
        found[name] = json.loads(line) if line.startswith("{") else {"failed": line.strip()}
        if "failed" in found[name]:
            del workers[name]
    times: dict[str, list[float]] = {name: [] for name in workers}
    turn = 0
    while workers and (turn < 3 or time.time() < end):
        for name in sorted(workers, reverse=turn % 2 == 1):
            print(steps, file=workers[name].stdin, flush=True)
            times[name].append(float(workers[name].stdout.readline()))
        turn += 1
    for worker in workers.values():
        worker.stdin.close()
        worker.wait(timeout=60)
    first = next(iter(specs))
    for name, taken in times.items():
        found[name]["ms"] = round(statistics.median(taken[1:]), 3)  # the first turn was cooler
        found[name]["ratio"] = round(
            statistics.median(a / b for a, b in zip(taken[1:], times[first][1:], strict=True)), 4
        )
    for name, spec in specs.items():
        found[name]["variant"] = spec
    return {"case": case.name, "turns": turn, "steps_a_turn": steps, "variants": found}


def _start(case: Case, spec: dict[str, Any]) -> Any:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.train.variants", case.name]
    return subprocess.Popen(
        [*command, "--worker", json.dumps(spec)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **spec.get("env", {})},
    )


def _work(case: Case, spec: dict[str, Any]) -> None:
    """Trains as many steps as each line of the standard input says, and prints ms a step."""
    import vibetensor
    import vibetensor.torch as torch
    from benchmarks.train import loops

    mode = spec.get("mode", loops.ANY_ORDER if spec.get("any_order") else "fused")
    torch.cuda.tunable.packaged_enable(spec.get("packaged", True))
    if "products" in spec:
        torch.backends.cuda.matmul.gelu_products = spec["products"]
    if "rows" in spec:
        _choose_products(Path(spec["rows"]), spec.get("only", [""]))
    capture = vibetensor.capture
    captured: list[Any] = []

    def with_passes(step: Any, *, fuse: Any = False, **options: Any) -> Any:
        captured.append(capture(step, fuse=spec.get("fuse", fuse) if fuse else fuse, **options))
        return captured[-1]

    vibetensor.capture = with_passes  # type: ignore[assignment]
    side = loops.make(case, mode, autocast=spec.get("autocast", False))
    losses = side.losses(6)
    side.reset()
    side.run(2)
    torch.cuda.synchronize()
    row: dict[str, Any] = {"losses": losses, "peak_mib": side.peak() >> 20}
    for report in filter(None, (each.report() for each in captured)):
        row["rewrites"] = dict(report.rewrites)
        row["launched"] = report.launched
    print(json.dumps(row), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        side.run(int(line))
        print((time.perf_counter() - start) / int(line) * 1e3, flush=True)


def _choose_products(file: Path, only: list[str]) -> None:
    from vibetensor import _C
    from vibetensor.tuning import products

    rows = [row for row in products.read(file).rows if row.params.startswith(tuple(only))]
    gpu = _C.device_properties(_C.device("cuda:0")).name
    _C.set_tunable_tuning(False)
    _C.add_products(gpu, _C.product_library_version(), rows)
    _C.set_tunable_enabled(True)


if __name__ == "__main__":
    sys.exit(main())
