"""What two caching allocators reserve for the same steps: `python -m benchmarks.allocator`.

Each side runs in a process of its own, allocates and frees the same sizes in the same order (a
GPT's training steps with changing batch and length, no kernels), and says what it reserved, how
often it went to the driver and how long it took, host time of the Python loop included. One JSON
line a side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.allocator import steps

# A name, the package, and the environment that chooses its allocator.
SIDES: dict[str, tuple[str, dict[str, str]]] = {
    "ours": ("vibetensor.torch", {}),
    "ours, segments": ("vibetensor.torch", {"VIBETENSOR_CUDA_ALLOCATOR": "segments"}),
    "ours, expandable": ("vibetensor.torch", {"VIBETENSOR_CUDA_ALLOCATOR": "expandable"}),
    "ours, driver": ("vibetensor.torch", {"VIBETENSOR_CUDA_ALLOCATOR": "driver"}),
    "torch": ("torch", {}),
    "torch, expandable": ("torch", {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}),
}


def main() -> int:
    """Starts a process for each side, or is the one of `--side`."""
    parser = argparse.ArgumentParser(prog="benchmarks.allocator", description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", help="run this package here, as in vibetensor.torch")
    parser.add_argument("--sides", nargs="*", default=list(SIDES), help="which ones to compare")
    parser.add_argument("--out", type=Path, help="file for the rows and facts about the run")
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(_run(arguments)))
        return 0
    rows = []
    for name in arguments.sides:
        package, environment = SIDES[name]
        command = [sys.executable, "-m", "benchmarks.allocator", "--side", package]
        for option in ("steps", "layers", "width", "heads", "seed"):
            command += [f"--{option}", str(getattr(arguments, option))]
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        found = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-800:]}
        rows.append({"side": name, **found})
        print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        facts = {"benchmark": "allocator", "date": time.strftime("%Y-%m-%d")}
        arguments.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    return 1 if any("error" in row for row in rows) else 0


def _run(arguments: Any) -> dict[str, Any]:
    if arguments.side == "torch":
        import torch
    else:
        import vibetensor.torch as torch
    events = [
        list(steps.step(batch, length, arguments.layers, arguments.width, arguments.heads))
        for batch, length in steps.shapes(arguments.steps, arguments.seed)
    ]
    kwargs = {"dtype": torch.uint8, "device": "cuda"}
    empty = torch.empty
    lasting = [empty(n, **kwargs) for n in steps.parameters(arguments.layers, arguments.width)]
    live: dict[int, Any] = {}
    slowest = 0.0
    start = time.perf_counter()
    for events_of_step in events:
        begin = time.perf_counter()
        for name, size in events_of_step:
            if size:
                live[name] = empty(size, **kwargs)
            else:
                del live[name]
        slowest = max(slowest, time.perf_counter() - begin)
    seconds = time.perf_counter() - start
    return {
        "device": torch.cuda.get_device_name(),
        "steps": arguments.steps,
        "allocations": sum(1 for e in events for _, size in e if size) + len(lasting),
        "live_peak_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1),
        "reserved_peak_mib": round(torch.cuda.max_memory_reserved() / 2**20, 1),
        "driver_allocations": torch.cuda.memory_stats()["num_device_alloc"],
        "seconds": round(seconds, 3),
        "slowest_step_ms": round(slowest * 1e3, 3),
    }


if __name__ == "__main__":
    sys.exit(main())
