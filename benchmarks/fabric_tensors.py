"""Host time of calls on fabric tensors: `python benchmarks/fabric_tensors.py [--device cuda]`.

For 1, 2 and 4 ranks, which share one GPU with --device cuda: one JSON line a case with the time of
a call and of the same operator called for each rank's tensor from Python, in microseconds, medians
over rounds. Tensors are small: what is timed is the host.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import vibetensor.torch as torch
from vibetensor import fabric
from vibetensor.cli.provenance import provenance

F = torch.nn.functional


def microseconds(call: Callable[[], object], rounds: int, calls: int, cuda: bool) -> float:
    """The median time of a call; the GPU is idle at the start of each round."""
    times = []
    for _ in range(rounds + 1):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times[1:]) * 1e6


Call = Callable[[], object]


def cases(mesh: fabric.Mesh) -> dict[str, tuple[Call, Call | None]]:
    """By name: a call, and the loop over the ranks that it stands for, if there is one."""

    def place(placement: fabric.Placement) -> fabric.FabricTensor:
        return fabric.distribute(torch.randn(8, 8), mesh, placement)

    x, y = place(fabric.Shard(0)), place(fabric.Shard(0))
    w, p = place(fabric.Replicate()), place(fabric.Partial())
    leaf = place(fabric.Replicate()).requires_grad_()
    xs, ys, ws = (t.to_local_shards() for t in (x, y, w))
    return {
        "add": (lambda: x + y, lambda: [a + b for a, b in zip(xs, ys, strict=True)]),
        "relu": (lambda: torch.relu(x), lambda: [torch.relu(a) for a in xs]),
        "matmul": (lambda: x @ w, lambda: [a @ b for a, b in zip(xs, ws, strict=True)]),
        "view": (lambda: x.view(8, 4, 2), lambda: [a.view(-1, 4, 2) for a in xs]),
        "linear, recorded": (lambda: F.linear(x, leaf), None),
        "Partial to Replicate": (lambda: p.reshard(fabric.Replicate()), None),
        "Shard to Replicate": (lambda: x.reshard(fabric.Replicate()), None),
        "Partial to Shard": (lambda: p.reshard(fabric.Shard(0)), None),
        "Shard to Shard": (lambda: x.reshard(fabric.Shard(1)), None),
    }


def main() -> None:
    """Prints the lines; with --out, writes them too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--calls", type=int, default=200, help="calls a round")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cuda = arguments.device == "cuda"
    if not cuda:
        fabric.set_cpu_devices(4)
        torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for ranks in (1, 2, 4):
        mesh = fabric.mesh(["cuda:0"] * ranks if cuda else [f"cpu:{i}" for i in range(ranks)])
        for name, (call, loop) in cases(mesh).items():
            row: dict[str, object] = {"device": arguments.device, "ranks": ranks, "case": name}
            row["us"] = round(microseconds(call, arguments.rounds, arguments.calls, cuda), 2)
            if loop is not None:
                each = microseconds(loop, arguments.rounds, arguments.calls, cuda)
                row["python_loop_us"] = round(each, 2)
            rows.append(row)
            print(json.dumps(row), flush=True)
    if arguments.out:
        head = {"benchmark": "fabric_tensors", **provenance()}
        arguments.out.write_text("".join(json.dumps(row) + "\n" for row in [head, *rows]))


if __name__ == "__main__":
    main()
