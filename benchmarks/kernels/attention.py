"""Attention on chunks of one bfloat16 projection, forward and with gradients, beside PyTorch's.

Each line of output is one shape (batch x heads x tokens x features): microseconds of the GPU, the
median of five batches of calls, of ours, of PyTorch's own choice, of its cuDNN and FlashAttention-2
kernels and of what it has when gradients must be the same in every run; "x best" is the fastest of
PyTorch's over ours. Ours are the same in every run. Run it as
``python benchmarks/kernels/attention.py [--only SHAPE] [--out FILE]``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import torch as reference
from torch.nn.attention import SDPBackend, sdpa_kernel

import vibetensor.torch as torch

CASES = [
    # batch, heads, tokens, features, causal
    (32, 12, 1024, 64, True),  # GPT-2 124M
    (8, 16, 4096, 64, True),
    (8, 16, 2048, 128, True),
    (32, 12, 1024, 64, False),
    (4, 16, 2048, 128, False),
    (2, 16, 8192, 128, True),
    (32, 12, 512, 64, True),
    (64, 12, 256, 64, True),
    (8, 12, 1024, 64, True),
    (2, 12, 512, 64, True),
]
KERNELS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def microseconds(lib: Any, call: Callable[[], object], calls: int) -> float:
    """Of the GPU, a call: the median of five batches of `calls`."""
    for _ in range(3):
        call()
    lib.cuda.synchronize()
    found = []
    for _ in range(5):
        start, end = (lib.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            call()
        end.record()
        lib.cuda.synchronize()
        found.append(start.elapsed_time(end) / calls * 1e3)
    return round(statistics.median(found), 1)


def passes(
    lib: Any, batch: int, heads: int, tokens: int, width: int, causal: bool
) -> dict[str, Callable[[], object]]:
    """Forward alone, and with the gradients of query, key and value."""
    packed = lib.randn(batch, tokens, 3, heads, width, device="cuda").to(lib.bfloat16)
    parts = [packed[:, :, i].transpose(1, 2).detach().requires_grad_() for i in range(3)]
    grad = lib.randn(batch, heads, tokens, width, device="cuda").to(lib.bfloat16)
    attention = lib.nn.functional.scaled_dot_product_attention

    def forward() -> object:
        with lib.no_grad():
            return attention(*parts, is_causal=causal)

    def step() -> object:
        return lib.autograd.grad(attention(*parts, is_causal=causal), parts, grad)

    return {"fwd": forward, "step": step}


def run(case: tuple[int, int, int, int, bool]) -> dict[str, Any]:
    batch, heads, tokens, width, causal = case
    size = "x".join(map(str, case[:4])) + (" causal" if causal else " full")
    calls = max(6, min(40, int(5e11 / (batch * heads * tokens**2 * width))))
    line: dict[str, Any] = {"case": f"{size} bf16"}
    for name, call in passes(torch, *case).items():
        line[f"ours {name}"] = microseconds(torch, call, calls)
    torch.cuda.empty_cache()
    theirs = passes(reference, *case)
    for name, call in theirs.items():
        line[f"torch {name}"] = microseconds(reference, call, calls)
        for kernel, backend in KERNELS.items():
            with sdpa_kernel(backend):
                line[f"{kernel} {name}"] = microseconds(reference, call, calls)
    reference.use_deterministic_algorithms(True, warn_only=True)
    line["torch step, deterministic"] = microseconds(reference, theirs["step"], calls)
    reference.use_deterministic_algorithms(False)
    for name in theirs:
        best = min(line[f"{kernel} {name}"] for kernel in ("torch", *KERNELS))
        line[f"x best {name}"] = round(best / line[f"ours {name}"], 3)
    reference.cuda.empty_cache()
    return line


def main() -> None:
    """Measures the chosen shapes, prints a JSON line of each and writes all to one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="shapes that contain this, as 32x12x1024x64")
    parser.add_argument("--out", help="a JSON file")
    options = parser.parse_args()
    lines = []
    for case in CASES:
        if options.only not in "x".join(map(str, case[:4])):
            continue
        lines.append(run(case))
        print(json.dumps(lines[-1]), flush=True)
    if options.out:
        result = {
            "benchmark": "attention",
            "gpu": reference.cuda.get_device_name(),
            "torch": reference.__version__,
            "unit": "us",
            "cases": lines,
        }
        with open(options.out, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
