"""chargpt: a GPT that learns to write text, character by character."""

from __future__ import annotations

import argparse
from typing import Any

from vibetensor import _C
from vibetensor.examples import gpt, text
from vibetensor.examples.task import Task
from vibetensor.nn import Module

DEFAULTS = {"steps": 1000, "batch": 32, "lr": 1e-3, "clip": 1.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this example."""
    parser.add_argument(
        "--text", metavar="FILE", help="UTF-8 text to learn; default: Python's standard library"
    )
    parser.add_argument("--context", type=int, default=128, help="characters seen at once")
    parser.add_argument("--width", type=int, default=128, help="size of a position's vector")
    parser.add_argument("--heads", type=int, default=4, help="attention heads")
    parser.add_argument("--layers", type=int, default=4, help="blocks of attention and network")
    parser.add_argument("--sample", type=int, default=400, help="characters to write at the end")


def build(args: argparse.Namespace) -> Task:
    """The model and the windows of the text that it learns from.

    Raises:
        ValueError: a text that is empty, too short or not UTF-8, or sizes that do not fit.
    """
    for name in ("context", "width", "heads", "layers"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, name)}")
    corpus = text.read(args.text)
    vocabulary = text.Vocabulary(corpus)
    windows = text.Windows(vocabulary.encode(corpus), args.context, args.batch, args.seed)
    model = gpt.GPT(len(vocabulary), args.context, args.width, args.heads, args.layers)
    start = "def " if args.text is None else corpus[0]

    def report(module: Module) -> dict[str, Any]:
        _C.manual_seed(args.seed, next(iter(module.parameters())).device)
        first = vocabulary.encode(start).tolist()
        return {"sample": vocabulary.decode(gpt.generate(module, first, args.sample))}

    size = sum(param.numel() for param in model.parameters())
    return Task(
        model,
        windows,
        gpt.loss,
        report,
        f"GPT of {size / 1e6:.2f} M parameters, {len(corpus) / 1e6:.2f} M characters of "
        f"{args.text or 'the Python standard library'}, {len(vocabulary)} different ones",
        unit="tokens",
        units_per_sample=args.context,
    )
