"""Weak scaling of the Trainer: `python -m benchmarks.train.scaling [case ...]`. One process.

The batch of a case is one rank's share: n ranks train on n of them. Steps of every mesh and
way take turns, so that a slow moment of the machine meets all. Prints one JSON line a mesh
and way; `scaling` is the work done a second, by that of one rank captured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.train import loops, models
from benchmarks.train.cases import CASES, Case

WAYS = ("captured", "fused", "graph a GPU", "eager")


def trainer_of(case: Case, names: list[str], way: str, reduce_blocks: int) -> Any:
    """A warm trainer over the ranks and the batch for all of them, from page-locked memory."""
    import vibetensor.torch as torch
    from vibetensor import fabric, graph_trial
    from vibetensor.parallel import DataParallel, Trainer

    torch.manual_seed(0)
    mesh = fabric.mesh(names)
    model = DataParallel(case.model(loops.networks()), mesh, reduce_blocks=reduce_blocks)
    trainer = Trainer(
        model, torch.optim.AdamW(model.parameters(), lr=case.lr), models.loss,
        precision=case.precision, clip=1.0, capture=way != "eager", fuse=way == "fused",
    )  # fmt: skip
    parts = [case.batch(np.random.default_rng(i)) for i in range(len(names))]
    batch = tuple(
        torch.from_numpy(np.concatenate(arrays)).pin_memory() for arrays in zip(*parts, strict=True)
    )
    forms = {graph_trial.key_of(model.devices): graph_trial.Form(way != "graph a GPU", "")}
    with mock.patch.object(graph_trial, "_forms", forms):
        for _ in range(4):
            trainer.step(batch)
    return trainer, batch


def seconds(trainer: Any, batch: Any, steps: int) -> float:
    """Seconds a step, of so many in a row."""
    from vibetensor import _C

    devices = list(dict.fromkeys(trainer.model.devices))

    def wait() -> None:
        for device in devices:
            _C.synchronize(device)

    wait()
    start = time.perf_counter()
    for _ in range(steps):
        trainer.step(batch)
    wait()
    return (time.perf_counter() - start) / steps


def main() -> int:
    """Runs cases on meshes."""
    from vibetensor.cli.provenance import provenance
    from vibetensor.parallel import replicas

    parser = argparse.ArgumentParser(prog="benchmarks.train.scaling", description=__doc__)
    parser.add_argument("cases", nargs="*", help="parts of names of CUDA cases")
    parser.add_argument("--meshes", nargs="*", default=["cuda:0", "cuda:0,cuda:1"])
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=["captured"])
    parser.add_argument("--reduce-blocks", type=int, nargs="*", default=[replicas.REDUCE_BLOCKS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of a round")
    parser.add_argument("--out", type=Path, help="file for the result and facts about the machine")
    arguments = parser.parse_args()
    rows = []
    for case in CASES:
        if case.device != "cuda" or case.ranks > 1:
            continue
        if arguments.cases and not any(part in case.name for part in arguments.cases):
            continue
        found = _run(case, arguments)
        rows += found
        for row in found:
            print(json.dumps(row), flush=True)
    if arguments.out:
        head = {"benchmark": "train scaling"}
        result = {**head, **provenance(), "rows": rows}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _run(case: Case, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    sides = {
        (mesh, way, blocks): trainer_of(case, mesh.split(","), way, blocks)
        for mesh in arguments.meshes
        for way in arguments.ways
        for blocks in arguments.reduce_blocks
    }
    times: dict[tuple[str, str, int], list[float]] = {side: [] for side in sides}
    for _ in range(arguments.rounds):
        for side, (trainer, batch) in sides.items():
            times[side].append(seconds(trainer, batch, arguments.steps))
    first = statistics.median(next(iter(times.values())))
    alone = len(arguments.meshes[0].split(","))
    rows = []
    for (mesh, way, blocks), each in times.items():
        ranks = len(mesh.split(","))
        middle = statistics.median(each)
        trainer = sides[mesh, way, blocks][0]
        rows.append(
            {
                "case": case.name, "mesh": mesh, "way": way, "reduce_blocks": blocks,
                "ms": round(middle * 1e3, 4), "ms_all": [round(t * 1e3, 4) for t in each],
                "units_per_s": round(case.units[0] * ranks / middle),
                "scaling": round(first / middle * ranks / alone, 4),
                "replays": trainer.replays, "early_buckets": trainer.model.early_buckets,
                "buckets": len(trainer.model.buckets),
            }
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
