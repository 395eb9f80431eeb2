"""Attention and linear layers on a GPU against PyTorch: where arithmetic decides, not memory.

Attention runs against PyTorch's default, cuDNN and FlashAttention-2; `x` is the fastest of those
over ours. Each case: forward under no_grad, then forward with backward. One JSON line a case and
pass, times in microseconds of the GPU. Run it as
``python benchmarks/kernels/products.py [--only WORD] [--rounds N] [--out FILE]``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch as reference
import vibetensor.torch.nn.functional as ours_functional
from cuda import call_of, measure
from cuda_cases import normal
from torch.nn.attention import SDPBackend, sdpa_kernel

import vibetensor.torch as ours

Function = Callable[..., Any]
Place = Callable[[], AbstractContextManager[Any]]


class Case(NamedTuple):
    """Inputs of a module, the function of each contestant, and the multiply-adds of the forward."""

    name: str
    size: str
    dtype: str
    make: Callable[[Any], list[Any]]
    variants: dict[str, tuple[Any, Function, Place]]
    products: float


def attention() -> Iterator[Case]:
    """Chunks of one projection to heads and back, as in a transformer."""
    shapes = [
        ("bfloat16", 8, 16, 4096, 64, True),
        ("bfloat16", 32, 12, 1024, 64, True),
        ("bfloat16", 64, 8, 128, 32, True),
        ("bfloat16", 4, 16, 2048, 128, True),
        ("float32", 64, 8, 128, 32, True),
        ("float32", 256, 4, 64, 32, False),
        ("float32", 4, 8, 512, 64, True),
    ]
    for dtype, b, h, t, d, causal in shapes:

        def call(m: Any, x: Any, h: int = h, d: int = d, causal: bool = causal) -> Any:
            b, t = x.shape[0], x.shape[1]
            q, k, v = (z.view(b, t, h, d).transpose(1, 2) for z in x.split(h * d, dim=2))
            out = m.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
            return out.transpose(1, 2).reshape(b, t, h * d)

        def any_order(m: Any, x: Any, call: Function = call) -> Any:
            m.backends.cudnn.deterministic = False
            return call(m, x)

        variants = {
            "ours": (ours, call, nullcontext),
            "ours_any_order": (ours, any_order, nullcontext),
            "torch": (reference, call, nullcontext),
            "torch_cudnn": (reference, call, lambda: sdpa_kernel(SDPBackend.CUDNN_ATTENTION)),
            "torch_flash": (reference, call, lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION)),
        }
        if dtype == "float32":
            variants = {name: variants[name] for name in ("ours", "torch")}
        products = 2.0 * b * h * t * t * d / (2 if causal else 1)
        size = f"{b}x{h}x{t}x{d}{' causal' if causal else ''}"

        def make(m: Any, s: tuple[int, ...] = (b, t, 3 * h * d), dtype: str = dtype) -> list[Any]:
            return [normal(m, *s, dtype=dtype)]

        yield Case("attention", size, dtype, make, variants, products)


def linear() -> Iterator[Case]:
    """Linear layers with bias, alone and with GELU."""
    shapes = [
        ("bfloat16", 8192, 8192, 8192),
        ("bfloat16", 32768, 768, 2304),
        ("bfloat16", 32768, 768, 768),
        ("bfloat16", 32768, 768, 3072),
        ("bfloat16", 32768, 3072, 768),
        ("bfloat16", 32768, 768, 50304),
        ("bfloat16", 8192, 256, 768),
        ("bfloat16", 8192, 256, 1024),
        ("bfloat16", 8192, 1024, 256),
        ("float32", 8192, 256, 1024),
        ("float32", 16384, 128, 384),
    ]
    for dtype, rows, inner, outer in shapes:

        def make(
            m: Any, s: tuple[int, int, int] = (rows, inner, outer), dtype: str = dtype
        ) -> list[Any]:
            rows, inner, outer = s
            weight = normal(m, outer, inner, dtype=dtype, grad=False) * (1 / math.sqrt(inner))
            return [
                normal(m, rows, inner, dtype=dtype),
                weight.detach().requires_grad_(True),
                normal(m, outer, dtype=dtype),
            ]

        def plain(m: Any, x: Any, w: Any, b: Any) -> Any:
            return m.nn.functional.linear(x, w, b)

        def gelu(m: Any, x: Any, w: Any, b: Any) -> Any:
            if m is ours:
                return ours_functional.linear_gelu(x, w, b)
            return m.nn.functional.gelu(m.nn.functional.linear(x, w, b), approximate="tanh")

        size, products = f"{rows}x{inner} -> {outer}", float(rows) * inner * outer
        for name, call in (("linear", plain), ("linear + gelu", gelu)):
            if name == "linear" or inner * 4 == outer:
                variants = {
                    "ours": (ours, call, nullcontext),
                    "torch": (reference, call, nullcontext),
                }
                yield Case(name, size, dtype, make, variants, products)


def run(case: Case, step: bool, rounds: int) -> dict[str, Any]:
    """One line: all contestants of a case."""
    line: dict[str, Any] = {
        "case": case.name,
        "size": case.size,
        "dtype": case.dtype,
        "pass": "step" if step else "forward",
    }
    for name, (m, function, place) in case.variants.items():
        try:
            with place():
                call = call_of(m, function, case.make(m), step)
                line[f"{name}_us"] = round(measure([call], rounds), 2)
        except RuntimeError as error:  # a backend that does not take the shape
            line[f"{name}_refuses"] = str(error).splitlines()[0][:120]
        finally:
            ours.backends.cudnn.deterministic = True
    best = min(line[f"{n}_us"] for n in case.variants if n[:5] == "torch" and f"{n}_us" in line)
    line["x"] = round(best / line["ours_us"], 3)
    backward = 2.5 if case.name == "attention" else 2.0
    flops = 2 * case.products * (1 + backward if step else 1)
    line["tflops"] = round(flops / line["ours_us"] * 1e-6, 1)
    return line


def main() -> None:
    """Measures the chosen cases and prints one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="families or cases whose name contains this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=argparse.FileType("a"), default=sys.stdout)
    options = parser.parse_args()
    header = {"gpu": reference.cuda.get_device_name(), "torch": reference.__version__}
    print(json.dumps(header), file=options.out, flush=True)
    for family in (attention, linear):
        for case in family():
            if options.only not in family.__name__ and options.only not in case.name:
                continue
            for step in (False, True):
                print(json.dumps(run(case, step, options.rounds)), file=options.out, flush=True)
                reference.cuda.empty_cache()
                ours.cuda.empty_cache()


if __name__ == "__main__":
    main()
