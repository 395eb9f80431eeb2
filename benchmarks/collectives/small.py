"""Short collectives: microseconds a call in graphs of several lengths, and called from Python.

One JSON line a size; 0 bytes is the barrier, others an all_reduce of bf16. The columns are
"SIDE CALLS" for graphs of so many calls over all GPUs, "SIDE CALLS a GPU" for one graph a GPU, and
"SIDE eager" from Python, to the end on the devices. Sides: `early` (as by default), `late` (no
kernel starts before the one before it has ended), and `nccl` where every rank has a GPU.

    python -m benchmarks.collectives.small --devices cuda:0,1 --json FILE
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import vibetensor.torch as torch
from vibetensor import fabric
from vibetensor.cli.bench import positive, size
from vibetensor.cli.provenance import provenance
from vibetensor.collectives import Communicator
from vibetensor.graph_timing import seconds_in_graph

SIDES: dict[str, dict[str, Any]] = {
    "early": {},
    "late": {"early_launch": False},
    "nccl": {"algorithm": "nccl"},
}


def eager_us(call: Callable[[], object], comm: Communicator) -> float:
    """A call from Python: the median of batches of 100, each waited for."""
    times = []
    for _ in range(15):
        comm.synchronize()
        start = time.perf_counter()
        for _ in range(100):
            call()
        comm.synchronize()
        times.append((time.perf_counter() - start) * 1e4)
    return statistics.median(times)


def row_of(
    mesh: fabric.Mesh, sides: dict[str, Communicator], bytes_: int, lengths: list[int]
) -> dict[str, Any]:
    """All sides and forms of one size."""
    row: dict[str, Any] = {"ranks": len(mesh), "devices": len(set(mesh.devices)), "bytes": bytes_}
    tensors = [torch.ones(bytes_ // 2, dtype=torch.bfloat16, device=d) for d in mesh.devices]
    devices = list(dict.fromkeys(mesh.devices))
    for side, comm in sides.items():

        def call(comm: Communicator = comm) -> object:
            return comm.all_reduce(tensors, "avg") if bytes_ else comm.barrier()

        for length in lengths if mesh.type == "cuda" else []:
            for whole in (True, False) if len(devices) > 1 and side != "nccl" else (True,):
                times = seconds_in_graph(call, devices, calls=length, replays=15, whole=whole)
                comm.synchronize()
                name = f"{side} {length}" + ("" if whole else " a GPU")
                row[name] = round(statistics.median(times) * 1e6, 2)
        row[f"{side} eager"] = round(eager_us(call, comm), 2)
    return row


def main() -> int:
    """Times the sizes on all sides."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.collectives.small",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--devices", default="auto", help="auto, cpu:4, cuda:0,1 or all")
    parser.add_argument("--ranks", type=positive, default=None, help="that share the devices")
    sizes = [0, 1 << 10, 4 << 10, 64 << 10, 256 << 10, 1 << 20]
    parser.add_argument("--bytes", nargs="+", type=size, default=sizes)
    parser.add_argument("--calls", nargs="+", type=positive, default=[20, 200], help="of a graph")
    parser.add_argument("--json", type=Path, help="file for the lines and facts about the machine")
    args = parser.parse_args()
    mesh = fabric.parse_devices(args.devices, ranks=args.ranks)
    alone = mesh.type == "cuda" and len(set(mesh.devices)) == len(mesh)
    sides = {
        name: Communicator(mesh, **options)
        for name, options in SIDES.items()
        if name == "early" or (mesh.type == "cuda" and (name != "nccl" or alone))
    }
    rows = []
    for bytes_ in args.bytes:
        rows.append(row_of(mesh, sides, bytes_, args.calls))
        print(json.dumps(rows[-1]), flush=True)
    if args.json:
        result = {"benchmark": "short collectives", **provenance(), "rows": rows}
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
