"""PyTorch's DistributedDataParallel on the CUDA cases, the peer of `benchmarks.train.scaling`.

`torchrun --nproc-per-node 2 -m benchmarks.train.ddp gpt2 [--compile]`: a process a GPU, each with
the batch of the case; fused AdamW, autocast for bf16, clipping. Rank 0 prints one JSON line a case.
With one process nothing is wrapped, so that two calls give the weak scaling.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.train import loops
from benchmarks.train.cases import CASES, Case


def step_of(case: Case, compiled: bool, rank: int, ranks: int) -> Any:
    """A function that trains one step on this process's GPU."""
    device = torch.device("cuda", rank)
    models = loops.networks(twin=True)
    torch.manual_seed(0)
    model = case.model(models).to(device)
    if ranks > 1:
        model = torch.nn.parallel.DistributedDataParallel(
            model, device_ids=[rank], gradient_as_bucket_view=True
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=case.lr, fused=True)
    batch = [torch.from_numpy(a).pin_memory() for a in case.batch(np.random.default_rng(rank))]

    def forward(inputs: Any, targets: Any) -> Any:
        with torch.autocast("cuda", torch.bfloat16, enabled=case.precision == "bf16"):
            return models.loss(model(inputs), targets)

    if compiled:
        forward = torch.compile(forward)

    def step() -> None:
        inputs, targets = (t.to(device, non_blocking=True) for t in batch)
        optimizer.zero_grad()
        forward(inputs, targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def main() -> int:
    """Times the chosen cases on all processes."""
    parser = argparse.ArgumentParser(prog="benchmarks.train.ddp", description=__doc__)
    parser.add_argument("cases", nargs="*", help="parts of names of CUDA cases")
    parser.add_argument("--compile", action="store_true", help="compile forward and loss")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of a round")
    parser.add_argument("--out", type=Path, help="file for the result")
    arguments = parser.parse_args()
    rank, ranks = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch.cuda.set_device(rank)
    if ranks > 1:
        dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
    rows = []
    for case in CASES:
        chosen = not arguments.cases or any(part in case.name for part in arguments.cases)
        if case.device != "cuda" or case.ranks or not chosen:
            continue
        torch._dynamo.reset()  # or what is compiled next takes sizes that differ as unknown ones
        torch.cuda.reset_peak_memory_stats()
        step = step_of(case, arguments.compile, rank, ranks)
        for _ in range(5):
            step()
        times = []
        for _ in range(arguments.rounds):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(arguments.steps):
                step()
            torch.cuda.synchronize()
            times.append((time.perf_counter() - start) / arguments.steps)
        rows.append(
            {
                "case": case.name, "ranks": ranks, "compiled": arguments.compile,
                "ms": round(statistics.median(times) * 1e3, 3),
                "peak_mib": torch.cuda.max_memory_allocated() >> 20,
            }
        )  # fmt: skip
        if rank == 0:
            print(json.dumps(rows[-1]), flush=True)
    if arguments.out and rank == 0:
        head = {
            "benchmark": "ddp", "torch": torch.__version__, "gpu": torch.cuda.get_device_name(),
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        }  # fmt: skip
        arguments.out.write_text(json.dumps({**head, "cases": rows}, indent=1) + "\n")
    if ranks > 1:
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
