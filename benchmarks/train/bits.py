"""Whether steps have the same bits however they run: `python -m benchmarks.train.bits [case ...]`.

Trains each CUDA workload eagerly, captured, and captured once more from the same seed, and compares
the float32 loss of every step. (A fused step may round differently; its losses are shown.)
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.train import loops
from benchmarks.train.cases import CASES


def main() -> int:
    """Prints one JSON line a case; ends with 1 where bits differ."""
    parser = argparse.ArgumentParser(prog="benchmarks.train.bits", description=__doc__)
    parser.add_argument("cases", nargs="*", default=["minigpt", "vit", "reversal", "short texts"])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    from vibetensor.cli.provenance import provenance

    rows: list[dict[str, Any]] = []
    for case in CASES:
        if case.ranks or not any(part in case.name for part in arguments.cases):
            continue
        eager, captured, again, fused = (
            loops.make(case, mode, 0, True).losses(arguments.steps)
            for mode in ("eager", "captured", "captured", "fused")
        )
        rows.append(
            {
                "case": case.name,
                "steps": arguments.steps,
                "captured_is_eager": captured == eager,
                "again_is_first": again == captured,
                "first_difference": next(
                    (i for i, (a, b) in enumerate(zip(eager, captured, strict=True)) if a != b),
                    None,
                ),
                "last_losses": {"eager": eager[-1], "captured": captured[-1], "fused": fused[-1]},
            }
        )
        print(json.dumps(rows[-1]), flush=True)
        if arguments.out:
            found = {"benchmark": "bits of steps", **provenance(), "cases": rows}
            arguments.out.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return int(not all(row["captured_is_eager"] and row["again_is_first"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
