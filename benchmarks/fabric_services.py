"""Costs of the fabric's services: `python benchmarks/fabric_services.py [--torch] [--out FILE]`.

One JSON line a case. A note of the event ring. On two GPUs: `a + b` with b on the other GPU, read
in place or copied first, beside both on one GPU and, with --torch, PyTorch's `a + b.to(a.device)`.
On a GPU: 16 MiB of unified memory moved to the host and back. Times are medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import vibetensor.torch as torch
from vibetensor import _C, fabric
from vibetensor.cli.provenance import provenance

ROUNDS = 9
SIZES = (1 << 10, 1 << 16, 1 << 20, 1 << 24, 1 << 27)


def wait_for_gpus() -> None:
    """All of them."""
    for i in range(_C.device_count("cuda")):
        torch.cuda.synchronize(f"cuda:{i}")


def microseconds(call: Callable[[], object], calls: int) -> tuple[float, float]:
    """Of a call: until the host goes on, and in all. The devices are idle before each round."""
    host, total = [], []
    for _ in range(ROUNDS + 1):
        wait_for_gpus()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        host.append((time.perf_counter() - start) / calls)
        wait_for_gpus()
        total.append((time.perf_counter() - start) / calls)
    return (statistics.median(host[1:]) * 1e6, statistics.median(total[1:]) * 1e6)


def addition(way: str, numel: int, call: Callable[[], object]) -> dict[str, Any]:
    """The row of one case."""
    host, total = microseconds(call, 200 if numel <= 1 << 20 else 10)
    row = {"case": "a + b", "way": way, "numel": numel}
    row |= {"host_us": round(host, 2), "us": round(total, 2)}
    return row | {"gb_s_of_b": round(4e-3 * numel / total, 1)}


def additions(numel: int, with_torch: bool) -> Iterator[dict[str, Any]]:
    """float32, a on cuda:0, b on cuda:1."""
    a, b = torch.ones(numel, device="cuda:0"), torch.ones(numel, device="cuda:1")
    near = torch.ones(numel, device="cuda:0")
    yield addition("one GPU", numel, lambda: a + near)
    for way, access in (("read in place", True), ("copied first", False)):
        fabric.enable(peer_access=access)
        yield addition(way, numel, lambda: a + b)
        fabric.disable()
    for way, access in (("peer access", True), ("no peer access", False)):
        if access:
            fabric.enable()
        row = addition(f"b.to() alone, {way}", numel, lambda: b.to("cuda:0"))
        yield row | {"case": "copy"}
        fabric.disable()
    if with_torch:
        import torch as pytorch

        x, y = (pytorch.ones(numel, device=f"cuda:{i}") for i in range(2))
        yield addition("PyTorch, b.to()", numel, lambda: x + y.to("cuda:0"))
        row = addition("PyTorch, b.to() alone", numel, lambda: y.to("cuda:0"))
        yield row | {"case": "copy"}


def prefetches() -> Iterator[dict[str, Any]]:
    """There and back, in turn."""
    t = fabric.unified_zeros([4 << 20], torch.float32, "cuda:0")
    times: dict[str, list[float]] = {"cpu": [], "cuda:0": []}
    for _ in range(ROUNDS):
        for where, found in times.items():
            wait_for_gpus()
            start = time.perf_counter()
            fabric.prefetch(t, where)
            wait_for_gpus()
            found.append(time.perf_counter() - start)
    for where, found in times.items():
        middle = statistics.median(found) * 1e6
        yield {"case": f"prefetch of 16 MiB to {where}", "us": round(middle, 1)}


def cases(with_torch: bool) -> Iterator[dict[str, Any]]:
    """All that this machine can do."""
    notes = [_C.time_fabric_note(200_000) for _ in range(ROUNDS)]
    yield {"case": "note", "ns": round(statistics.median(notes), 1)}
    if _C.device_count("cuda"):
        yield from prefetches()
    if _C.device_count("cuda") > 1:
        for numel in SIZES:
            yield from additions(numel, with_torch)


def main() -> None:
    """Prints the lines; with --out, writes them too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", action="store_true", help="PyTorch beside it")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for row in cases(arguments.torch):
        rows.append(row)
        print(json.dumps(row), flush=True)
    if arguments.out:
        head = {"benchmark": "fabric_services", **provenance()}
        arguments.out.write_text("".join(json.dumps(row) + "\n" for row in [head, *rows]))


if __name__ == "__main__":
    main()
