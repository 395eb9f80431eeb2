"""The table of `bench`: the columns of nccl-tests, how it was done and, if asked for, NCCL."""

from __future__ import annotations

import argparse

from vibetensor import _C
from vibetensor.cli.collective_case import Part, Row
from vibetensor.fabric import Mesh

_NO_IN_PLACE = "-"


def heading(mesh: Mesh, args: argparse.Namespace) -> str:
    """What is measured, and the names and units of the columns."""
    ranks = "\n".join(f"#  rank {rank:2d} on {device}" for rank, device in enumerate(mesh.devices))
    memory = "symmetric" if args.symmetric else "ordinary"
    timed = f"graphs of {args.cudagraph} calls" if args.cudagraph else "calls from the host"
    names = f"{'time':>9} {'p50':>9} {'p99':>9} {'algbw':>7} {'busbw':>7} {'#wrong':>6}"
    units = f"{'(us)':>9} {'(us)':>9} {'(us)':>9} {'(GB/s)':>7} {'(GB/s)':>7} {'':>6}"
    notes = ""
    if args.compare == "nccl":
        names += f" {'nccl':>9} {'ratio':>6}"
        units += f" {'(us)':>9} {'':>6}"
        notes = (
            f"# nccl: NCCL {_C.nccl_version()}, same tensors, same ordering by events; "
            "ratio: time / nccl, below 1 is faster than NCCL\n"
        )
    return (
        f"# {args.kind.name} nranks {len(mesh)} minBytes {args.minbytes} maxBytes {args.maxbytes} "
        f"warmup iters: {args.warmup_iters} iters: {args.iters} validation: {args.check} "
        f"algorithm: {args.algorithm} memory: {memory} timed: {timed}\n"
        f"# Using devices\n{ranks}\n{notes}#\n"
        f"#{'':55}{'out-of-place':>{len(names)}}  {'in-place':>{len(names)}}\n"
        f"#{'size':>12} {'count':>12} {'type':>9} {'redop':>6} {'root':>6}     {names}  {names}"
        f"  {'algorithm':>11} {'blocks':>6}\n"
        f"#{'(B)':>12} {'(elements)':>12} {'':>9} {'':>6} {'':>6}     {units}  {units}"
    )


def line(row: Row) -> str:
    """One row of the table."""
    blocks = row["blocks"] or "auto"
    return (
        f" {row['size']:>12} {row['count']:>12} {row['type']:>9} {row['redop']:>6} "
        f"{row['root']:>6}     {_half(row['out_of_place'])}  "
        f"{_half(row['in_place'], row['out_of_place'])}  {row['algorithm']:>11} {blocks:>6}"
    )


def _half(part: Part | None, like: Part | None = None) -> str:
    if part is None:  # the kind has no such form: the same columns, empty
        assert like is not None
        widths = [9, 9, 9, 7, 7, 6] + ([9, 6] if like["nccl_us"] is not None else [])
        return " ".join(f"{_NO_IN_PLACE:>{width}}" for width in widths)
    wrong = "N/A" if part["wrong"] is None else part["wrong"]
    text = (
        f"{part['time_us']:9.2f} {part['p50_us']:9.2f} {part['p99_us']:9.2f} "
        f"{part['algbw']:7.2f} {part['busbw']:7.2f} {wrong:>6}"
    )
    if part["nccl_us"] is not None:
        text += f" {part['nccl_us']:9.2f} {part['ratio']:6.2f}"
    return text
