"""Training on several devices beside one: the same batches, float32, the loss of every step.

    python tests/parallel/equality.py --meshes cuda:0 cuda:0,cuda:0 cuda:0,cuda:1 --json FILE

The first mesh is what the others are compared with: the largest relative distance of a loss of 200
steps, whether two runs on the same mesh have the same bits, and how gradients were added up. A
wider GPT is among the cases: its buckets are large enough for copy engines. Ends with 1 where a
loss is further than 1e-4 off.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import tasks

from vibetensor import fabric
from vibetensor.examples import gpt

LIMIT = 1e-4
WIDE = tasks.Case(
    "chargpt-wide", gpt, lambda m: m.GPT(tasks.vocabulary_size(), 32, 512, 8, 4), 2e-4, 14
)


def reduced_by() -> dict[str, int]:
    """How all_reduces since reset_stats were carried out; captured ones count when captured."""
    found = fabric.stats()["collective"].items()
    return {n.split("/")[1]: each["calls"] for n, each in found if n.startswith("all_reduce/")}


def main() -> int:
    """Trains every example on every mesh, prints a JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meshes", nargs="+", default=["cpu:0", "cpu:0,cpu:0"])
    parser.add_argument("--steps", type=int, default=tasks.STEPS)
    parser.add_argument("--captured", action="store_true", help="captured steps, too")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for case in (*tasks.CASES.values(), WIDE):
        batches = case.batches(args.steps)
        first: list[float] = []
        for captured in (False, True) if args.captured else (False,):
            for names in args.meshes:
                mesh = fabric.mesh(names.split(","))
                fabric.reset_stats()
                curves = [tasks.curve(case, mesh, batches, capture=captured) for _ in range(2)]
                first = first or curves[0]
                rows.append(
                    {
                        "case": case.name,
                        "mesh": names,
                        "captured": captured,
                        "steps": args.steps,
                        "furthest_loss": tasks.furthest(first, curves[0]),
                        "same_bits_again": curves[0] == curves[1],
                        "last_loss": curves[0][-1],
                        "reduced_by": reduced_by(),
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
    from vibetensor.cli.provenance import provenance

    if args.json:
        found = {"benchmark": "training equality", "limit": LIMIT, **provenance(), "rows": rows}
        args.json.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return int(any(r["furthest_loss"] > LIMIT or not r["same_bits_again"] for r in rows))


if __name__ == "__main__":
    sys.exit(main())
