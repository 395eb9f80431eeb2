"""`vibetensor demo`: chargpt on every GPU or, where there is none, on four CPU devices."""

from __future__ import annotations

import argparse
from typing import Any

from vibetensor.cli import train


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    from vibetensor.examples import chargpt

    parser = subparsers.add_parser(
        "demo", help="train a small GPT on every device of this machine, and let it write"
    )
    train.add_arguments(parser, {**chargpt.DEFAULTS, "steps": None})
    chargpt.add_arguments(parser)
    parser.set_defaults(run=run, example="chargpt")


def run(args: argparse.Namespace) -> int:
    """Chooses a size that the devices train in a minute or two."""
    from vibetensor import _C

    gpus = _C.device_count("cuda")
    if args.devices == "auto":
        args.devices = "cuda" if gpus else "cpu:4"
    if gpus:
        args.width, args.heads, args.layers, args.batch = 256, 8, 6, 64 * gpus
        args.steps = args.steps or 2000
    else:
        args.steps = args.steps or 400
    return train.run(args)
