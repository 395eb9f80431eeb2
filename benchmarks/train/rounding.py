"""What the step compiler's roundings do to training: `python -m benchmarks.train.rounding`.

GPT-2 of short texts in bfloat16. First the gradients of one step, captured and fused, against those
of float32 from the same weights: which is nearer? (From some 3,000 ids in a batch on, products are
large enough for what the step compiler asks of kernels made here.) Then losses of 60 steps with
each pass left out, and over seeds: how far apart does chaos take steps that differ in their last
bits?
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.train import loops
from benchmarks.train.cases import Case, gpt2


def main() -> int:
    """Prints one JSON line a part."""
    parser = argparse.ArgumentParser(prog="benchmarks.train.rounding", description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--texts", type=int, default=4, help="of 128 ids, in a batch")
    parser.add_argument("--gradients", action="store_true", help="no losses: starts of all seeds")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    import vibetensor
    from vibetensor.cli.provenance import provenance

    case = gpt2(f"gpt-2 of short texts bf16 B{arguments.texts}", arguments.texts, 128)
    found: list[dict[str, Any]] = []

    def tell(**row: Any) -> None:
        found.append(row)
        print(json.dumps(row), flush=True)

    seeds = range(arguments.seeds)
    for steps, seed in [(0, 0), (30, 0), *((0, seed) for seed in seeds[1:] if arguments.gradients)]:
        weights = _train(case, False, steps, "bf16", seed)[1]
        errors = _errors(case, weights, seed)
        tell(gradients_after=steps, seed=seed, texts=arguments.texts, **errors)
    passes_left_out = [] if arguments.gradients else [None, *vibetensor.fuse.passes()]
    for left_out in passes_left_out:
        passes = True if left_out is None else {left_out: False}
        losses = _train(case, passes, arguments.steps, "bf16", 0)[0]
        tell(fused_without=left_out, losses=losses[::5] + losses[-1:], end=_end(losses))
    for seed in () if arguments.gradients else seeds:
        ends = {
            name: _end(_train(case, fuse, arguments.steps, precision, seed)[0])
            for name, fuse, precision in (
                ("captured", False, "bf16"),
                ("fused", True, "bf16"),
                ("float32", False, "fp32"),
            )
        }
        tell(seed=seed, end=ends)
    if arguments.out:
        result = {"benchmark": "rounding of the fused step", **provenance(), "parts": found}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _end(losses: list[float]) -> float:
    """The mean loss of the last 8 steps, which see each batch once."""
    return round(statistics.mean(losses[-8:]), 5)


def _model(case: Case, precision: str, seed: int) -> Any:
    """The same weights, rounded to bfloat16, in both precisions."""
    import vibetensor.torch as torch

    torch.manual_seed(seed)
    model = case.model(loops.networks()).to(case.device).to(torch.bfloat16)
    return model.to(torch.float32) if precision == "fp32" else model


def _batches(case: Case) -> list[tuple[Any, Any]]:
    import vibetensor.torch as torch

    return [
        (torch.from_numpy(x).to(case.device), torch.from_numpy(y).to(case.device))
        for x, y in case.batches()
    ]


def _train(case: Case, fuse: Any, steps: int, precision: str, seed: int) -> tuple[Any, Any]:
    """Losses of float32 logits, and the weights at the end."""
    import vibetensor
    import vibetensor.torch as torch

    model, loss_of = _model(case, precision, seed), loops.networks().loss
    optimizer = torch.optim.AdamW(model.parameters(), lr=case.lr)

    def step(inputs: Any, targets: Any) -> Any:
        optimizer.zero_grad()
        logits = model(inputs)
        loss = loss_of(logits, targets)
        told = loss_of(logits.detach().float(), targets)
        del logits
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return told

    captured = vibetensor.capture(step, fuse=fuse)
    data = _batches(case)
    losses = [float(captured(*data[i % len(data)])) for i in range(steps)]
    return losses, [p.detach().clone() for p in model.parameters()]


def _errors(case: Case, weights: list[Any], batch: int) -> dict[str, Any]:
    """Relative errors of all parameters' gradients against float32's: median and largest."""
    exact = _gradients(case, weights, False, "fp32", batch)
    result: dict[str, Any] = {}
    for name, fuse in (
        ("captured", False),
        ("fused", True),
        ("fused without gelu_slope", {"gelu_slope": False}),
        ("fused without linear_cross_entropy", {"linear_cross_entropy": False}),
    ):
        errors = [
            float(((a - b) ** 2).sum() ** 0.5 / (b**2).sum() ** 0.5)
            for a, b in zip(_gradients(case, weights, fuse, "bf16", batch), exact, strict=True)
        ]
        result[name] = {
            "median": round(statistics.median(errors), 5),
            "most": round(max(errors), 5),
        }
    return result


def _gradients(case: Case, weights: list[Any], fuse: Any, precision: str, batch: int) -> list[Any]:
    import vibetensor
    import vibetensor.torch as torch

    model, loss_of = _model(case, precision, 0), loops.networks().loss
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(weight)

    def step(inputs: Any, targets: Any) -> list[Any]:
        for parameter in model.parameters():
            parameter.grad = None
        loss_of(model(inputs), targets).backward()
        return [parameter.grad for parameter in model.parameters()]

    captured = vibetensor.capture(step, fuse=fuse)
    data = _batches(case)
    for _ in range(4):
        gradients = captured(*data[batch % len(data)])
    return [gradient.float().cpu().numpy().astype("float64") for gradient in gradients]


if __name__ == "__main__":
    sys.exit(main())
