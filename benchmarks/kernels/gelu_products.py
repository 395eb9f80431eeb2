"""Products of 16-bit matrices with GELU, or its gradient and column sums, in their kernel.

Each line of output is one shape (rows x columns x k) and pass: microseconds of the GPU in a graph
with the kernels made here ("own") and with cuBLASLt's, and of the product by itself ("plain"), each
cool, after a pause, and hot, after `--seconds` of the same. A forward pass keeps what GELU is
applied to; a backward pass ends with the sums of the gradient's columns. Run it as
``python benchmarks/kernels/gelu_products.py [--only WORD] [--dtype TYPE] [--out FILE]``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import vibetensor.torch as torch
from vibetensor import fuse
from vibetensor.graph_timing import seconds_in_graph

F = torch.nn.functional
SHAPES = {
    "GPT-2 124M, B 32, T 1024": (32768, 3072, 768),
    "GPT-2 124M, B 4": (4096, 3072, 768),
    "ViT, B 256": (20480, 1024, 256),
    "miniGPT, B 64": (8192, 1024, 256),
    "wide": (8192, 16384, 4096),
    "few rows": (1024, 3072, 768),
}


def times(call: Callable[[], object], seconds: float) -> dict[str, float]:
    """Microseconds a call, cool and hot."""
    time.sleep(0.2)
    first = seconds_in_graph(call, ["cuda:0"], calls=10, replays=3, warmup=1)
    cool = statistics.median(first)
    replays = max(3, int(seconds / (10 * cool)))
    hot = seconds_in_graph(call, ["cuda:0"], calls=10, replays=replays, warmup=1)[-3:]
    return {"cool": round(cool * 1e6, 2), "hot": round(statistics.median(hot) * 1e6, 2)}


def with_each(call: Callable[[], object], seconds: float) -> dict[str, dict[str, float]]:
    """times() of the call by each kind of kernels that this build has."""
    matmul, found = torch.backends.cuda.matmul, {}
    before = matmul.gelu_products
    for whose in dict.fromkeys((before, "cublaslt")):
        matmul.gelu_products = whose
        found[whose] = times(call, seconds)
    matmul.gelu_products = before
    return found


def forward(m: int, n: int, k: int, dtype: Any, seconds: float) -> dict[str, dict[str, float]]:
    x, bias = (torch.randn(*s, device="cuda").to(dtype) for s in ((m, k), (n,)))
    w = (torch.randn(n, k, device="cuda") * k**-0.5).to(dtype).requires_grad_()
    found = with_each(lambda: F.linear_gelu(x, w, bias), seconds)
    return {**found, "plain": times(lambda: F.linear(x, w, bias), seconds)}


def backward(m: int, n: int, k: int, dtype: Any, seconds: float) -> dict[str, dict[str, float]]:
    h = torch.randn(m, n, device="cuda").to(dtype).requires_grad_()
    w = (torch.randn(k, n, device="cuda") * k**-0.5).to(dtype)
    grad = torch.randn(m, k, device="cuda").to(dtype)
    out = F.linear(F.gelu(h, approximate="tanh"), w)

    def call() -> list[torch.Tensor]:
        with fuse.recording():
            (dh,) = torch.autograd.grad(out, [h], grad, retain_graph=True)
            return [dh, dh.sum(0)]

    return {**with_each(call, seconds), "plain": times(lambda: torch.matmul(grad, w), seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name has this word")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16"])
    parser.add_argument("--seconds", type=float, default=0.5, help="of work before a hot time")
    parser.add_argument("--out", help="file that the lines are added to")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    for name, shape in SHAPES.items():
        if options.only not in name:
            continue
        m, n, k = shape
        for side in (forward, backward):
            found = side(*shape, dtype, options.seconds)
            work = 2 * m * n * k
            line = {
                "case": name, "size": f"{m}x{n}x{k}", "dtype": options.dtype,
                "pass": side.__name__, "us": found,
                "tflops_hot": {who: round(work / t["hot"] / 1e6) for who, t in found.items()},
            }  # fmt: skip
            text = json.dumps(line)
            print(text, flush=True)
            if options.out:
                with open(options.out, "a") as file:
                    file.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
