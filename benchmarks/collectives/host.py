"""What a collective call costs the host: Python call to return, with tiny tensors.

Aim: at most 10 us and 3 us a rank. Prints one JSON line a case: the median and the best of several
batches of calls, in microseconds a call.

    python benchmarks/collectives/host.py --devices cpu --ranks 1,2,4,8
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import vibetensor.torch as torch
from vibetensor import collectives, fabric


def microseconds(call: Callable[[], object], wait: Callable[[], object]) -> list[float]:
    """Of a call, by batch; the devices catch up between batches, so that no queue is ever full."""
    times = []
    for _ in range(30):
        start = time.perf_counter()
        for _ in range(100):
            call()
        times.append((time.perf_counter() - start) * 1e4)
        wait()
    return times[5:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", default="cpu", help="cpu, or as in cuda:0,1")
    parser.add_argument("--ranks", default="1,2,4,8")
    parser.add_argument("--json", type=Path, help="append the lines to this file")
    args = parser.parse_args()
    lines = []
    for ranks in map(int, args.ranks.split(",")):
        named = f"cpu:{ranks}" if args.devices == "cpu" else args.devices
        mesh = fabric.parse_devices(named, ranks=ranks)
        comm = collectives.communicator(mesh)
        few = [torch.zeros(4, device=device) for device in mesh.devices]
        many = [torch.zeros(4 * ranks, device=device) for device in mesh.devices]
        calls: dict[str, Callable[[], object]] = {
            "all_reduce": lambda few=few: collectives.all_reduce(few),
            "all_gather": lambda few=few, many=many: collectives.all_gather(few, out=many),
            "reduce_scatter": lambda few=few, many=many: collectives.reduce_scatter(many, out=few),
            "barrier": comm.barrier,
        }
        for name, call in calls.items():
            times = microseconds(call, comm.synchronize)
            line = {
                "case": f"{name} from Python",
                "devices": args.devices,
                "ranks": ranks,
                "us": round(statistics.median(times), 2),
                "best_us": round(min(times), 2),
                "aim_us": 10 + 3 * ranks,
            }
            lines.append(json.dumps(line))
            print(lines[-1], flush=True)
    if args.json:
        with args.json.open("a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)


if __name__ == "__main__":
    main()
