"""`vibetensor bench`: the collectives, right and how fast; flags and columns of nccl-tests."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vibetensor import _C
from vibetensor.cli.collective_kinds import KINDS

if TYPE_CHECKING:
    from vibetensor.cli.collective_case import Row

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_OPS = ("sum", "prod", "min", "max", "avg")
_EXAMPLES = "Example: vibetensor bench {0} -g 2 -b 4K -e 1G -f 4; without GPUs: --devices cpu:4"


def add_parser(subparsers: Any) -> None:
    """Adds the command with one subcommand a collective."""
    parser = subparsers.add_parser("bench", help="speed and correctness of the collectives")
    collectives = parser.add_subparsers(title="collectives", metavar="COLLECTIVE", required=True)
    for title, kind in KINDS.items():
        add = collectives.add_parser(
            title,
            help=kind.name + (", out of place and in place" if kind.in_place else ""),
            aliases=_other_spellings(title),
            description=f"Times {kind.name} over sizes, and checks every result against float64.",
            epilog=_EXAMPLES.format(title),
        )
        add.set_defaults(run=run, kind=kind, tune=False)
        _add_sizes(add)
        if kind.reduces:
            add.add_argument("-o", "--op", default="sum", help=f"{', '.join(_OPS)}, or all")
        else:
            add.set_defaults(op="sum")
        _add_ways(add)
        if title == "allreduce":
            add.add_argument(
                "--tune",
                action="store_true",
                help="time every algorithm, and keep the fastest for each size in the user's table",
            )


def _other_spellings(title: str) -> list[str]:
    """all_reduce for allreduce, allgather for all_gather, as other tools write them."""
    joined = title.replace("_", "")
    return ["all_reduce"] if title == "allreduce" else [joined] if joined != title else []


def _add_sizes(add: argparse.ArgumentParser) -> None:
    add.add_argument("-b", "--minbytes", type=size, default="4", help="smallest size, as 4, 64K")
    add.add_argument("-e", "--maxbytes", type=size, default="256M", help="largest size, as 256M")
    add.add_argument("-f", "--stepfactor", type=int, default=4, help="from one size to the next")
    add.add_argument("-i", "--stepbytes", type=size, default=None, help="a step instead of -f")
    add.add_argument("-n", "--iters", type=positive, default=20, help="timed calls")
    add.add_argument("-w", "--warmup_iters", type=int, default=5, help="calls before them")
    add.add_argument("-g", "--ngpus", type=positive, default=None, help="the first N GPUs")
    add.add_argument("-d", "--datatype", default="float", help="NAME[,NAME...] or all")
    add.add_argument("-c", "--check", type=int, default=1, help="0: do not check the results")
    add.add_argument(
        "-G",
        "--cudagraph",
        type=int,
        default=0,
        metavar="CALLS",
        help="capture so many calls in one graph over all GPUs, and time its replays",
    )


def _add_ways(add: argparse.ArgumentParser) -> None:
    add.add_argument("--devices", default=None, help="auto, cpu:4, cuda:0,1 or all")
    add.add_argument("--ranks", type=positive, default=None, help="ranks that share the devices")
    add.add_argument("--algorithm", choices=_C.algorithms, default="auto", help="on GPUs")
    add.add_argument(
        "--blocks", type=int, default=0, help="at most, of a kernel; 0: as many as pay"
    )
    add.add_argument("--threads", type=int, default=0, help="of a block; 0: as many as pay")
    add.add_argument("--chunk", type=size, default="0", help="bytes of a piece; 0: what pays")
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
    add.add_argument("--plot", metavar="FILE", default=None, help="draw time and bandwidth: a PNG")


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
    from vibetensor.cli import collective_table as table
    from vibetensor.cli.collective_case import DTYPES, Case
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
    _check_gpus(mesh, args)
    wanted = list(sizes(args))
    if args.symmetric is None:
        args.symmetric = mesh.type == "cuda" and len(set(mesh.devices)) > 1
    out = sys.stderr if args.json == "-" else sys.stdout
    if args.tune:
        from vibetensor.cli import tune

        table_rows, timings = tune.run(mesh, args.symmetric, sizes(args), out)
        if args.json is not None:
            facts = _facts(mesh, args)
            _write(args.json, {**facts, "table": table_rows, "rows": timings})
        return 0

    communicator = Communicator(
        mesh,
        algorithm=args.algorithm,
        max_blocks=args.blocks,
        threads=args.threads,
        chunk_bytes=args.chunk,
    )
    nccl = Communicator(mesh, algorithm="nccl") if args.compare == "nccl" else None
    ceiling = _ceiling(mesh)
    print(table.heading(mesh, args), file=out)
    rows: list[Row] = []
    for dtype in dtypes:
        for op in ops:
            for bytes_ in wanted:
                case = Case(
                    communicator,
                    bytes_,
                    dtype,
                    op,
                    kind=args.kind,
                    nccl=nccl,
                    symmetric=args.symmetric,
                    graph=args.cudagraph,
                    blocks=args.blocks,
                )
                row = case.run(args.iters, args.warmup_iters, args.check != 0)
                print(table.line(row), file=out, flush=True)
                rows.append(row)
    parts = [part for row in rows for part in (row["out_of_place"], row["in_place"]) if part]
    wrong = sum(part["wrong"] or 0 for part in parts)
    busbw = [part["busbw"] for part in parts]
    print(f"# Out of bounds values : {wrong} {'FAILED' if wrong else 'OK'}", file=out)
    print(f"# Avg bus bandwidth    : {sum(busbw) / len(busbw):.4f}", file=out)
    for name, value in ceiling.items():
        print(f"# Link ceiling         : {value:.1f} GB/s, {name}", file=out)
    if args.json is not None:
        _write(args.json, _report(mesh, args, rows, ceiling))
    if args.plot is not None:
        from vibetensor.cli import collective_plot

        collective_plot.plot(rows, ceiling, args.plot)
    return 1 if wrong else 0


def _check_gpus(mesh: Any, args: argparse.Namespace) -> None:
    """Raises ValueError for what only GPUs have."""
    wanted = {
        f"-G {args.cudagraph}": args.cudagraph > 0,
        "--compare nccl": args.compare == "nccl",
        "--algorithm nccl": args.algorithm == "nccl",
    }
    for flag, given in wanted.items():
        if given and mesh.type != "cuda":
            devices = ", ".join(map(str, mesh.devices))
            raise ValueError(
                f"bench: {flag} needs GPUs, but the devices are {devices}; leave it out"
            )


def _ceiling(mesh: Any) -> dict[str, float]:
    """What the first two GPUs' link carries one way, in GB/s; empty where there is no such link."""
    devices = list(dict.fromkeys(mesh.devices))
    if mesh.type != "cuda" or len(devices) < 2:
        return {}
    speed = _C.measure_pair(devices[0], devices[1])
    if speed is None:
        return {}
    found = {"by copy engine": speed["copy"], "by a kernel that stores": speed["store"]}
    return {name: value / 1e9 for name, value in found.items() if value is not None}


def _facts(mesh: Any, args: argparse.Namespace) -> dict[str, Any]:
    from vibetensor.cli.provenance import provenance

    return {
        "benchmark": args.kind.title + (" --tune" if args.tune else ""),
        **provenance(),
        "ranks": len(mesh),
        "devices": [str(device) for device in mesh.devices],
        "symmetric": args.symmetric,
    }


def _report(
    mesh: Any, args: argparse.Namespace, rows: list[Row], ceiling: dict[str, float]
) -> dict[str, Any]:
    return {
        **_facts(mesh, args),
        "iters": args.iters,
        "warmup_iters": args.warmup_iters,
        "cudagraph": args.cudagraph,
        "algorithm": args.algorithm,
        "nccl": _C.nccl_version() if "nccl" in (args.algorithm, args.compare) else None,
        "ceiling_gbps": ceiling,
        "rows": rows,
    }


def _write(path: str, report: dict[str, Any]) -> None:
    text = json.dumps(report, indent=1)
    if path == "-":
        print(text)
    else:
        with open(path, "w") as file:
            file.write(text + "\n")
