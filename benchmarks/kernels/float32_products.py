"""Float32 products on a GPU in the ways of `fp32_precision`, beside PyTorch's.

Every product of two training steps (miniGPT and sequence reversal), forward and both gradients, and
a sweep over the inner size. Times in microseconds of the GPU. Errors against float64 in units of
2^-24 of the sum of magnitudes of the terms: largest, mean and mean with sign, of normal numbers and
of positive ones, where nothing cancels. One JSON line a product. Run it as
``python benchmarks/kernels/float32_products.py [--rounds N] [--out FILE]``.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import torch as reference
from cuda import measure

import vibetensor.torch as ours

WAYS = ("ieee", "bf16x6")


def shapes() -> list[tuple[str, int, int, int]]:
    """(which product, m, n, k) of all linear layers of both steps, then a sweep over k."""
    found = []
    for tokens, width, vocabulary in ((8192, 256, 4096), (16384, 128, 36)):
        layers = [(width, 3), (width, 1), (width, 4), (4 * width, 0), (width, -1)]
        for inner, times in layers:
            outer = {0: width, -1: vocabulary}.get(times, times * width)
            found += [
                ("forward", tokens, outer, inner),
                ("input gradient", tokens, inner, outer),
                ("weight gradient", outer, inner, tokens),
            ]
    found += [("forward", 2048, 1024, 4**i) for i in range(2, 9)]
    return [*found, ("forward", 4096, 4096, 4096), ("forward", 8192, 8192, 8192)]


def operands(kind: str, m: int, n: int, k: int) -> tuple[Any, Any]:
    """Lying in memory as a linear layer has them."""
    numbers = reference.Generator(device="cuda").manual_seed(m + n + k)

    def normal(*sizes: int) -> Any:
        return reference.randn(*sizes, device="cuda", generator=numbers)

    if kind == "forward":
        return normal(m, k), normal(n, k).t()
    if kind == "input gradient":
        return normal(m, k), normal(k, n)
    return normal(k, m).t(), normal(k, n)


def errors(result: Any, a: Any, b: Any) -> dict[str, float]:
    """Largest, mean and signed mean error."""
    magnitude = a.double().abs() @ b.double().abs()
    error = (result.double() - a.double() @ b.double()) / magnitude * 2**24
    return {
        "max": round(float(error.abs().max()), 2),
        "mean": round(float(error.abs().mean()), 3),
        "bias": round(float(error.mean()), 3),
    }


def run(kind: str, m: int, n: int, k: int, rounds: int) -> dict[str, Any]:
    """One line."""
    a, b = operands(kind, m, n, k)
    line: dict[str, Any] = {"product": kind, "m": m, "n": n, "k": k}
    line["torch_us"] = round(measure([lambda: a @ b], rounds), 2)
    matmul = ours.backends.cuda.matmul
    before = matmul.fp32_precision
    for way in WAYS:
        matmul.fp32_precision = way
        x, y = ours.from_dlpack(a), ours.from_dlpack(b)
        line[f"{way}_us"] = round(measure([lambda x=x, y=y: x @ y], rounds), 2)
        if m * n <= 1 << 25:
            for sign, left, right in (("normal", a, b), ("positive", a.abs(), b.abs())):
                product = ours.from_dlpack(left) @ ours.from_dlpack(right)
                line[f"{way}_{sign}"] = errors(reference.from_dlpack(product), left, right)
    matmul.fp32_precision = before
    line["x"] = round(line["torch_us"] / line["bf16x6_us"], 2)
    line["tflops"] = round(2e-6 * m * n * k / line["bf16x6_us"], 1)
    return line


def main() -> None:
    """Measures all products and prints one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=argparse.FileType("a"), default=sys.stdout)
    options = parser.parse_args()
    reference.backends.cuda.matmul.allow_tf32 = False
    header = {"gpu": reference.cuda.get_device_name(), "torch": reference.__version__}
    print(json.dumps(header), file=options.out, flush=True)
    total = dict.fromkeys(("torch_us", "ieee_us", "bf16x6_us"), 0.0)
    for number, shape in enumerate(shapes()):
        line = run(*shape, options.rounds)
        print(json.dumps(line), file=options.out, flush=True)
        if number < 30:
            for name in total:
                total[name] = round(total[name] + line[name], 1)
    print(json.dumps({"both steps": total}), file=options.out, flush=True)


if __name__ == "__main__":
    main()
