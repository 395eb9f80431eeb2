"""`vibetensor demo`: chargpt on every GPU or, where there is none, on four CPU devices."""

from __future__ import annotations

import argparse
from typing import Any

from vibetensor.cli import train

# Sizes that are trained in a minute or two: on two cores, and on GPUs.
_ON_CPU = {
    "devices": "cpu:4", "precision": "fp32", "steps": 1000, "batch": 24, "lr": 3e-3,
    "context": 64, "width": 96, "heads": 4, "layers": 3,
}  # fmt: skip
_ON_GPUS = {
    "devices": "all", "steps": 2000, "batch": 64, "lr": 1e-3, "precision": "bf16",
    "context": 128, "width": 256, "heads": 8, "layers": 6,
}  # fmt: skip


def add_parser(subparsers: Any) -> None:
    """Adds the command: `train chargpt` with other defaults."""
    from vibetensor.examples import chargpt

    text = "train a small GPT on every device of this machine, and let it write"
    parser = subparsers.add_parser(
        "demo",
        help=text,
        description=f"T{text[1:]}. Sizes and steps that are not given are chosen by what "
        f"the machine has: {_ON_GPUS['steps']} steps on every GPU, or {_ON_CPU['steps']} of a "
        "smaller model on four CPU devices.",
    )
    train.add_arguments(parser, chargpt.DEFAULTS)
    chargpt.add_arguments(parser)
    parser.set_defaults(run=run, example="chargpt", **dict.fromkeys(_ON_GPUS))


def run(args: argparse.Namespace) -> int:
    """Fills in what was not asked for, by what the machine has."""
    from vibetensor import _C

    gpus = _C.device_count("cuda")
    chosen = {**_ON_GPUS, "batch": 64 * gpus} if gpus else _ON_CPU
    for name, value in chosen.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return train.run(args)
