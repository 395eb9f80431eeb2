"""Convolutions on a GPU beside PyTorch's, with the layers of residual networks.

Forward without a graph, and forward with both gradients; float32 without TF32 and bfloat16. Columns
are microseconds of GPU time: ours through cuDNN, which is deterministic by default, ours with
`cudnn.enabled` off (products of matrices), PyTorch with `cudnn.deterministic` on and off. `last`
says that the channels of images lie last in memory. One JSON line a case. Run it as
``python benchmarks/kernels/convolutions.py [--only WORD] [--rounds N] [--out FILE]``.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import torch as reference
from cuda import measure

import vibetensor.torch as ours

# name: images, kernels, options
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, int]]] = {
    "3x3 of 64": ((64, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    "3x3 of 256": ((64, 256, 14, 14), (256, 256, 3, 3), {"padding": 1}),
    "3x3 stride 2": ((64, 128, 56, 56), (128, 128, 3, 3), {"padding": 1, "stride": 2}),
    "1x1": ((64, 256, 56, 56), (64, 256, 1, 1), {}),
    "stem 7x7": ((64, 3, 224, 224), (64, 3, 7, 7), {"padding": 3, "stride": 2}),
    "depthwise 3x3": ((64, 256, 28, 28), (256, 1, 3, 3), {"padding": 1, "groups": 256}),
}


def call_of(m: Any, layer: str, dtype: str, step: bool, last: bool) -> Any:
    """A function that computes one layer in the library m."""
    images, kernels, options = LAYERS[layer]
    reference.manual_seed(0)
    kind = getattr(reference, dtype)
    x = reference.randn(images, device="cuda").to(kind)
    w = (reference.randn(kernels, device="cuda") / 16).to(kind)
    if last:
        x = x.contiguous(memory_format=reference.channels_last)
    if last and m is reference:
        w = w.contiguous(memory_format=reference.channels_last)
    if m is ours:
        x, w = ours.from_dlpack(x), ours.from_dlpack(w)
    convolve = m.nn.functional.conv2d

    def forward() -> Any:
        with m.no_grad():
            return convolve(x, w, **options)

    if not step:
        return forward
    grad = forward()
    leaves = [x.requires_grad_(True), w.requires_grad_(True)]

    def both() -> Any:
        return m.autograd.grad(convolve(*leaves, **options), leaves, grad)

    return both


def deviation(mine: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest number."""
    pairs = zip(mine, theirs, strict=True) if isinstance(theirs, tuple) else [(mine, theirs)]
    worst = 0.0
    for a, b in pairs:
        difference = reference.from_dlpack(a.detach()).double() - b.detach().double()
        worst = max(worst, float(difference.abs().max() / b.double().abs().max()))
    return worst


def run(layer: str, dtype: str, step: bool, last: bool, rounds: int) -> dict[str, Any]:
    """One line."""
    line: dict[str, Any] = {"layer": layer, "dtype": dtype, "pass": "step" if step else "forward"}
    line["last"] = last
    mine, theirs = (call_of(m, layer, dtype, step, last) for m in (ours, reference))
    line["off"] = f"{deviation(mine(), theirs()):.1e}"
    line["ours_us"] = round(measure([mine], rounds), 1)
    ours.backends.cudnn.enabled = False
    line["products_us"] = round(measure([mine], rounds), 1)
    ours.backends.cudnn.enabled = True
    for deterministic, name in ((True, "torch_deterministic_us"), (False, "torch_us")):
        reference.backends.cudnn.deterministic = deterministic
        line[name] = round(measure([theirs], rounds), 1)
    line["x_deterministic"] = round(line["torch_deterministic_us"] / line["ours_us"], 2)
    line["x"] = round(line["torch_us"] / line["ours_us"], 2)
    return line


def main() -> None:
    """Measures all layers and prints one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=argparse.FileType("a"), default=sys.stdout)
    options = parser.parse_args()
    reference.backends.cudnn.allow_tf32 = False
    header = {
        "gpu": reference.cuda.get_device_name(),
        "torch": reference.__version__,
        "cudnn": reference.backends.cudnn.version(),
    }
    print(json.dumps(header), file=options.out, flush=True)
    for dtype, last in (("float32", False), ("bfloat16", False), ("bfloat16", True)):
        for layer in LAYERS:
            for step in (False, True):
                if options.only in layer:
                    line = run(layer, dtype, step, last, options.rounds)
                    print(json.dumps(line), file=options.out, flush=True)


if __name__ == "__main__":
    main()
