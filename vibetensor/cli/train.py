"""`vibetensor train`: an example on all devices asked for, with checkpoints, metrics and a plot."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

DEVICES = "auto or all (every GPU, or else the CPU devices), cpu:4, cuda, cuda:0,1"
PRECISION = "type of parameters and activations"
SEED = "of all random numbers"
_EPILOG = "Ctrl-C saves before it leaves; --resume with the same --out goes on from there."


def add_parser(subparsers: Any) -> None:
    """Adds the command, with one subcommand for each example."""
    from vibetensor import examples

    parser = subparsers.add_parser("train", help="train an example on the devices of this machine")
    names = parser.add_subparsers(title="examples", metavar="EXAMPLE", required=True)
    for name in examples.NAMES:
        module = examples.find(name)
        summary = (module.__doc__ or "").splitlines()[0].partition(": ")[2].rstrip(".")
        text = f"Train on the devices of this machine: {summary}."
        one = names.add_parser(name, help=summary, description=text, epilog=_EPILOG)
        add_arguments(one, module.DEFAULTS)
        module.add_arguments(one)
        one.set_defaults(run=run, example=name)


def add_arguments(parser: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    """The options that all examples share."""
    parser.add_argument("--devices", default="auto", help=DEVICES)
    parser.add_argument(
        "--ranks-per-device", type=int, default=1, metavar="N", help="replicas on each device"
    )
    parser.add_argument("--steps", type=int, default=defaults["steps"], help="steps in all")
    parser.add_argument(
        "--batch", type=int, default=defaults["batch"], help="samples a step, over all devices"
    )
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help=PRECISION
    )
    parser.add_argument("--lr", type=float, default=defaults["lr"], help="highest learning rate")
    parser.add_argument(
        "--clip", type=float, default=defaults["clip"], help="largest norm of the gradients"
    )
    parser.add_argument("--accumulate", type=int, default=1, help="parts that a batch is cut into")
    parser.add_argument("--seed", type=int, default=0, help=SEED)
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="what the run leaves goes there; without, runs/EXAMPLE-<time>",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="CHECKPOINT",
        help="go on from a checkpoint, or from the newest in --out",
    )
    parser.add_argument(
        "--checkpoint-every", type=int, default=100, metavar="STEPS", help="how often to save"
    )
    parser.add_argument("--keep", type=int, default=3, help="how many checkpoints stay")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Trains, then tells what came of it; exit code 130 after Ctrl-C, 143 after SIGTERM."""
    result = train(args)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    signal = result["signal"]
    return 0 if signal is None else 128 + int(signal)


def train(args: argparse.Namespace) -> dict[str, Any]:
    """One whole run, as plain values."""
    import vibetensor.torch as torch
    from vibetensor import examples, fabric
    from vibetensor.io import atomic_file
    from vibetensor.parallel import DataParallel, Trainer
    from vibetensor.parallel.checkpoint import CheckpointFolder

    if args.ranks_per_device < 1:
        raise ValueError(f"--ranks-per-device must be at least 1, got {args.ranks_per_device}")
    if args.resume is True and args.out is None:
        raise ValueError("--resume needs the --out of the run to go on with, or a checkpoint")
    if isinstance(args.resume, str) and not Path(args.resume).is_file():
        raise ValueError(f"--resume: there is no checkpoint {args.resume}")
    out = Path(args.out or _default_folder(args))
    mesh = fabric.parse_devices(args.devices)
    if args.ranks_per_device > 1:
        mesh = fabric.mesh(list(mesh.devices), ranks=len(mesh) * args.ranks_per_device)
    torch.manual_seed(args.seed)
    task = examples.find(args.example).build(args)
    _say(args, f"{task.summary}; on {devices_text(mesh)}, {args.precision}")
    model = DataParallel(task.model, mesh)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01
    )
    trainer = Trainer(
        model,
        optimizer,
        task.loss_fn,
        precision=args.precision,
        clip=args.clip,
        accumulate=args.accumulate,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(args.steps)),
    )
    folder = CheckpointFolder(out, args.keep)
    if not args.resume:
        folder.check_unused()  # before its run.json is written over
    with atomic_file(out / "run.json") as file:
        chosen = {name: value for name, value in vars(args).items() if name != "run"}
        file.write(json.dumps(chosen, indent=2, default=str).encode() + b"\n")
    result = trainer.fit(
        task.loader,
        steps=args.steps,
        out=out,
        checkpoint_every=args.checkpoint_every,
        keep=args.keep,
        resume=args.resume,
        unit=task.unit,
        units_per_sample=task.units_per_sample,
    )
    report = {} if result.interrupted else task.report(model.eval().module)
    return {
        "example": args.example,
        "devices": [str(device) for device in mesh.devices],
        "precision": args.precision,
        "steps": result.steps,
        "new_steps": result.new_steps,
        "loss": result.loss,
        "seconds": round(result.seconds, 3),
        f"{task.unit}_per_second": round(result.rate, 1),
        "signal": result.signal,
        "resumed_from": _text(result.resumed_from),
        "checkpoint": _text(result.checkpoint),
        "metrics": _text(result.metrics),
        "plot": _text(result.plot),
        **report,
    }


def _schedule(steps: int) -> Any:
    """A short warm-up, then half a cosine down to a tenth."""
    warmup = max(1, min(100, steps // 10))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return 0.1 + 0.45 * (1 + math.cos(math.pi * done))

    return factor


def _default_folder(args: argparse.Namespace) -> str:
    if args.resume:
        return str(Path(args.resume).parent)
    return f"runs/{args.example}-{time.strftime('%Y%m%d-%H%M%S')}"


def devices_text(mesh: Any) -> str:
    """The devices of a mesh by name, once each."""
    names = [str(device) for device in mesh.devices]
    distinct = list(dict.fromkeys(names))
    if len(distinct) == len(names):
        return ", ".join(names)
    return f"{', '.join(distinct)} with {len(names) // len(distinct)} ranks each"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _say(args: argparse.Namespace, line: str) -> None:
    print(line, file=sys.stderr if args.json else sys.stdout, flush=True)


def _print(result: dict[str, Any]) -> None:
    unit = next(name for name in result if name.endswith("_per_second"))
    if result["signal"] is not None:
        print(f"stopped by signal {result['signal']} after step {result['steps']}; saved")
    if result["resumed_from"]:
        print(f"went on from {result['resumed_from']}")
    loss = "none" if result["loss"] is None else f"{result['loss']:.4f}"
    print(
        f"step {result['steps']}, loss {loss}, {result['seconds']:.1f} s, "
        f"{result[unit]:.0f} {unit.removesuffix('_per_second')} a second"
    )
    if "test_accuracy" in result:
        print(f"test accuracy {result['test_accuracy']:.2%}")
    if "sample" in result:
        print(f"\n{result['sample']}\n")
    for name in ("checkpoint", "metrics", "plot"):
        if result[name]:
            print(f"{name:<10} {result[name]}")
