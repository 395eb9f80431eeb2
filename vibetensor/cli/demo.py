"""`vibetensor demo`: chargpt on every GPU or, where there is none, on four CPU devices."""

from __future__ import annotations

import argparse
from typing import Any

from vibetensor.cli import train

# Sizes that are trained in a minute or two: on two cores, and on GPUs.
_ON_CPU = {
    "devices": "cpu:4", "steps": 1000, "batch": 24, "lr": 3e-3,
    "context": 64, "width": 96, "heads": 4, "layers": 3,
}  # fmt: skip
_ON_GPUS = {
    "devices": "all", "steps": 2000, "batch": 64, "lr": 1e-3, "precision": "bf16",
    "context": 128, "width": 256, "heads": 8, "layers": 6,
}  # fmt: skip


def add_parser(subparsers: Any) -> None:
    """Adds the command: `train chargpt` with other defaults."""
    from vibetensor import _C
    from vibetensor.examples import chargpt

    parser = subparsers.add_parser(
        "demo", help="train a small GPT on every device of this machine, and let it write"
    )
    train.add_arguments(parser, chargpt.DEFAULTS)
    chargpt.add_arguments(parser)
    gpus = _C.device_count("cuda")
    chosen = {**_ON_GPUS, "batch": 64 * gpus} if gpus else _ON_CPU
    parser.set_defaults(run=train.run, example="chargpt", **chosen)
