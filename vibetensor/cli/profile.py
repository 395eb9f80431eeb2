"""`vibetensor profile`: some training steps of an example, as a table by operation and a trace."""

from __future__ import annotations

import argparse
import itertools
from typing import Any

from vibetensor.cli import train


def add_parser(subparsers: Any) -> None:
    """Adds the command, with one subcommand for each example."""
    from vibetensor import examples

    parser = subparsers.add_parser("profile", help="see where the time of a training step goes")
    names = parser.add_subparsers(title="examples", metavar="EXAMPLE", required=True)
    for name in examples.NAMES:
        module = examples.find(name)
        one = names.add_parser(name, help=f"training steps of {name}")
        one.add_argument("--devices", default="auto", help=train.DEVICES)
        one.add_argument("--steps", type=int, default=5, help="steps to record")
        one.add_argument("--warmup", type=int, default=3, help="steps before them")
        one.add_argument(
            "--batch", type=int, default=module.DEFAULTS["batch"], help="samples a step"
        )
        one.add_argument(
            "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help=train.PRECISION
        )
        one.add_argument("--out", metavar="FILE", help="write a trace for ui.perfetto.dev")
        one.add_argument(
            "--sort-by", metavar="COLUMN", help="default: self time on the GPU, or host"
        )
        one.add_argument("--rows", type=int, default=25, help="rows of the table")
        one.add_argument("--shapes", action="store_true", help="a row a list of input shapes")
        one.add_argument(
            "--eager",
            action="store_true",
            help="do not capture the step: its operations are seen, not only their kernels",
        )
        one.add_argument("--memory", action="store_true", help="columns of memory")
        one.add_argument("--seed", type=int, default=0, help=train.SEED)
        module.add_arguments(one)
        one.set_defaults(
            run=run, example=name, lr=module.DEFAULTS["lr"], clip=module.DEFAULTS["clip"]
        )


def run(args: argparse.Namespace) -> int:
    """Trains `--warmup` and then `--steps` steps, the latter under the profiler."""
    import vibetensor.torch as torch
    from vibetensor import examples, fabric
    from vibetensor.parallel import DataParallel, Trainer
    from vibetensor.profiler import profile, record_function

    if args.steps < 1 or args.warmup < 0:
        raise ValueError(
            f"--steps must be at least 1 and --warmup 0, got {args.steps} and {args.warmup}"
        )
    mesh = fabric.parse_devices(args.devices)
    torch.manual_seed(args.seed)
    task = examples.find(args.example).build(args)
    print(f"{task.summary}; on {train.devices_text(mesh)}, {args.precision}")
    model = DataParallel(task.model, mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    trainer = Trainer(
        model,
        optimizer,
        task.loss_fn,
        precision=args.precision,
        clip=args.clip,
        capture=False if args.eager else "auto",
    )
    batches = itertools.chain.from_iterable(itertools.repeat(task.loader))
    for batch in itertools.islice(batches, args.warmup):
        trainer.step(batch)
    with profile(record_shapes=args.shapes, profile_memory=args.memory) as seen:
        for batch in itertools.islice(batches, args.steps):
            with record_function("training step"):
                trainer.step(batch)
    averages = seen.key_averages(group_by_input_shape=args.shapes)
    on_gpu = any(row.on_device for row in averages)
    sort_by = args.sort_by or ("self_device_time_total" if on_gpu else "self_cpu_time_total")
    print(averages.table(sort_by=sort_by, row_limit=args.rows))
    if args.out:
        seen.export_chrome_trace(args.out)
        print(f"trace      {args.out}")
    return 0
