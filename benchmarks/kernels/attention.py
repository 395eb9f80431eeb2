"""Attention on chunks of one bfloat16 projection, forward and with gradients, beside PyTorch's.

Each line of output is one shape (batch x heads x tokens x features): microseconds of the GPU, the
median of five batches of calls in turns, of ours, of PyTorch's own choice, of its cuDNN and
FlashAttention-2 kernels and of what it has when gradients must be the same in every run; "x best"
is the fastest of PyTorch's over ours. Ours are the same in every run. Run it as
``python benchmarks/kernels/attention.py [--only SHAPE] [--out FILE]``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import statistics
from collections.abc import Callable, Iterator
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
# A library, a call of it, and how it is set meanwhile.
Side = tuple[Any, Callable[[], object], Callable[[], contextlib.AbstractContextManager[Any]]]
KERNELS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def batch_of(lib: Any, call: Callable[[], object], calls: int) -> float:
    """Microseconds of the GPU, a call, of one batch of so many."""
    start, end = (lib.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        call()
    end.record()
    lib.cuda.synchronize()
    return float(start.elapsed_time(end)) / calls * 1e3


def in_turns(sides: dict[str, Side], calls: int) -> dict[str, float]:
    """Microseconds a call of each side, the median of five batches; all sides take turns, as the
    clock of a GPU depends on what it did before."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(6):
        for name, (lib, call, settings) in sides.items():
            with settings():
                taken = batch_of(lib, call, calls if turn else 3)
            if turn:
                found[name].append(taken)
    return {name: round(statistics.median(times), 1) for name, times in found.items()}


@contextlib.contextmanager
def same_bits() -> Iterator[None]:
    """PyTorch may only do what gives the same bits in every run."""
    reference.use_deterministic_algorithms(True, warn_only=True)
    yield
    reference.use_deterministic_algorithms(False)


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
    ours, theirs = passes(torch, *case), passes(reference, *case)
    for name in ours:
        sides: dict[str, Side] = {
            f"ours {name}": (torch, ours[name], contextlib.nullcontext),
            f"torch {name}": (reference, theirs[name], contextlib.nullcontext),
        }
        for kernel, backend in KERNELS.items():
            sides[f"{kernel} {name}"] = (
                reference,
                theirs[name],
                functools.partial(sdpa_kernel, backend),
            )
        if name == "step":
            sides["torch step, deterministic"] = (reference, theirs[name], same_bits)
        line |= in_turns(sides, calls)
    for name in theirs:
        best = min(line[f"{kernel} {name}"] for kernel in ("torch", *KERNELS))
        line[f"x best {name}"] = round(best / line[f"ours {name}"], 3)
    torch.cuda.empty_cache()
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
