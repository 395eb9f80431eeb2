"""`vibetensor bench allreduce`: right and how fast, with the flags and columns of nccl-tests."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vibetensor.cli.allreduce_case import Row

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_OPS = ("sum", "prod", "min", "max", "avg")
ALGORITHMS = (
    "auto",
    "packets",
    "lines",
    "packets2",
    "one_shot",
    "two_shot",
    "push",
    "copy_engine",
    "ring",
    "nccl",
)


def add_parser(subparsers: Any) -> None:
    """Adds the command with one subcommand a collective."""
    parser = subparsers.add_parser("bench", help="speed and correctness of the collectives")
    collectives = parser.add_subparsers(title="collectives", metavar="COLLECTIVE", required=True)
    add = collectives.add_parser(
        "allreduce",
        help="all_reduce, out of place and in place",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add.add_argument("-b", "--minbytes", type=size, default="4", help="smallest size, as 4, 64K")
    add.add_argument("-e", "--maxbytes", type=size, default="256M", help="largest size, as 256M")
    add.add_argument("-f", "--stepfactor", type=int, default=4, help="from one size to the next")
    add.add_argument("-i", "--stepbytes", type=size, default=None, help="a step instead of -f")
    add.add_argument("-n", "--iters", type=positive, default=20, help="timed calls")
    add.add_argument("-w", "--warmup_iters", type=int, default=5, help="calls before them")
    add.add_argument("-g", "--ngpus", type=positive, default=None, help="the first N GPUs")
    add.add_argument("-d", "--datatype", default="float", help="NAME[,NAME...] or all")
    add.add_argument("-o", "--op", default="sum", help=f"{', '.join(_OPS)} (with commas), or all")
    add.add_argument("-c", "--check", type=int, default=1, help="0: do not check the results")
    add.add_argument("--devices", default=None, help="auto, cpu:4, cuda:0,1 or all")
    add.add_argument("--ranks", type=positive, default=None, help="ranks that share the devices")
    add.add_argument(
        "--algorithm",
        choices=ALGORITHMS,
        default="auto",
        help="on GPUs",
    )
    add.add_argument(
        "--compare", choices=("nccl",), default=None, help="time NCCL with the same tensors too"
    )
    add.add_argument(
        "--symmetric",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="tensors that all devices reach directly, as the trainer's gradients are; "
        "without, they pass through a staging buffer (default: where there are several GPUs)",
    )
    add.add_argument("--json", metavar="FILE", default=None, help="write JSON there; - for stdout")
    add.set_defaults(run=run)


def size(text: str) -> int:
    """Bytes from "4", "64K", "1M" or "1G"."""
    number = text.upper().removesuffix("B")
    unit = number[-1:] if number[-1:] in ("K", "M", "G") else ""
    digits = number.removesuffix(unit)
    if not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a size such as 4, 64K, 1M or 1G, got '{text}'")
    return int(digits) * _UNITS[unit]


def positive(text: str) -> int:
    """An int above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got '{text}'")
    return int(text)


def sizes(args: argparse.Namespace) -> Iterator[int]:
    """The sizes asked for, in bytes."""
    if args.minbytes > args.maxbytes:
        raise ValueError(f"bench: -b {args.minbytes} is larger than -e {args.maxbytes}")
    if args.stepbytes is None and args.stepfactor < 2:
        raise ValueError(f"bench: -f must be at least 2, got {args.stepfactor}")
    if args.stepbytes == 0:
        raise ValueError("bench: -i must be at least 1")
    at = args.minbytes
    while at <= args.maxbytes:
        yield at
        if args.stepbytes is not None:
            at += args.stepbytes
        else:
            at = max(at * args.stepfactor, 1)


def run(args: argparse.Namespace) -> int:
    """Measures, prints and writes; 1 if a value was wrong."""
    from vibetensor import fabric
    from vibetensor.cli import allreduce_table as table
    from vibetensor.cli.allreduce_case import DTYPES, Case
    from vibetensor.collectives import Communicator

    if args.ngpus is not None and args.devices is not None:
        raise ValueError("bench: -g and --devices say the same thing; give one of them")
    text = args.devices or "auto"
    if args.ngpus is not None:
        text = "cuda:" + ",".join(map(str, range(args.ngpus)))
    dtypes = list(DTYPES) if args.datatype == "all" else args.datatype.split(",")
    ops = list(_OPS) if args.op == "all" else args.op.split(",")
    for name, known in [*((d, DTYPES) for d in dtypes), *((o, _OPS) for o in ops)]:
        if name not in known:
            raise ValueError(f"bench: unknown '{name}'; expected one of {', '.join(known)}, or all")
    mesh = fabric.parse_devices(text, ranks=args.ranks)
    if args.symmetric is None:
        args.symmetric = mesh.type == "cuda" and len(set(mesh.devices)) > 1
    communicator = Communicator(mesh, algorithm=args.algorithm)
    nccl = Communicator(mesh, algorithm="nccl") if args.compare == "nccl" else None

    out = sys.stderr if args.json == "-" else sys.stdout
    print(table.heading(mesh, args), file=out)
    rows: list[Row] = []
    for dtype in dtypes:
        for op in ops:
            for bytes_ in sizes(args):
                case = Case(communicator, bytes_, dtype, op, nccl=nccl, symmetric=args.symmetric)
                row = case.run(args.iters, args.warmup_iters, args.check != 0)
                print(table.line(row), file=out, flush=True)
                rows.append(row)
    parts = [part for row in rows for part in (row["out_of_place"], row["in_place"])]
    wrong = sum(part["wrong"] or 0 for part in parts)
    busbw = [part["busbw"] for part in parts]
    print(f"# Out of bounds values : {wrong} {'FAILED' if wrong else 'OK'}", file=out)
    print(f"# Avg bus bandwidth    : {sum(busbw) / len(busbw):.4f}", file=out)
    if args.json is not None:
        _write(args.json, _report(mesh, args, rows))
    return 1 if wrong else 0


def _report(mesh: Any, args: argparse.Namespace, rows: list[Row]) -> dict[str, Any]:
    from vibetensor import _C
    from vibetensor.cli.provenance import provenance

    return {
        "benchmark": "allreduce",
        **provenance(),
        "ranks": len(mesh),
        "devices": [str(device) for device in mesh.devices],
        "iters": args.iters,
        "warmup_iters": args.warmup_iters,
        "algorithm": args.algorithm,
        "symmetric": args.symmetric,
        "nccl": _C.nccl_version() if "nccl" in (args.algorithm, args.compare) else None,
        "rows": rows,
    }


def _write(path: str, report: dict[str, Any]) -> None:
    text = json.dumps(report, indent=1)
    if path == "-":
        print(text)
    else:
        with open(path, "w") as file:
            file.write(text + "\n")
