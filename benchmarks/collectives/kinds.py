"""Every collective from 4 B to 4 GiB beside NCCL, called from the host and in graphs, in one run.

Prints one JSON line a kind, size and form: microseconds a call, in place where there is such a
form, and how many numbers were wrong. What `vibetensor bench` says of one kind, of all of them with
the same communicators; sizes as in its -b, -e and -f, of a rank's larger tensor.

    python -m benchmarks.collectives.kinds --devices cuda:0,1 --json FILE
    python -m benchmarks.collectives.kinds --devices cpu:2 --largest 1M
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from vibetensor import _C, fabric
from vibetensor.cli.bench import positive, size
from vibetensor.cli.collective_case import DTYPES, Case
from vibetensor.cli.collective_kinds import KINDS
from vibetensor.cli.provenance import provenance
from vibetensor.collectives import Communicator

# Calls in one graph; timed calls and warm-up: fewer where a call takes long by itself.
_GRAPH = ((1 << 22, 20, 10, 2), (1 << 26, 10, 5, 1), (1 << 30, 4, 3, 1), (1 << 62, 2, 3, 1))
_EAGER = ((1 << 22, 0, 60, 10), (1 << 26, 0, 20, 3), (1 << 30, 0, 8, 2), (1 << 62, 0, 4, 1))


def row_of(
    ours: Communicator, nccl: Communicator | None, kind: str, bytes_: int, form: str, type_: str
) -> dict[str, Any]:
    """One kind of one size, checked."""
    plans = _GRAPH if form == "graph" else _EAGER
    calls, timed, warmup = next(plan[1:] for plan in plans if bytes_ <= plan[0])
    devices = len(set(ours.mesh.devices))
    case = Case(
        ours, bytes_, type_, "sum", kind=KINDS[kind], nccl=nccl, symmetric=devices > 1, graph=calls
    )
    found = case.run(timed, warmup, check=True)
    row: dict[str, Any] = {"kind": found["kind"], "form": form, "bytes": bytes_, "type": type_}
    row["algorithm"] = found["algorithm"]
    for name, part in (("out of place", found["out_of_place"]), ("in place", found["in_place"])):
        if part is not None:
            row[name] = {key: part[key] for key in ("time_us", "p50_us", "nccl_us", "ratio")}
            row[name] |= {"busbw": part["busbw"], "wrong": part["wrong"]}
    return row


def sizes(smallest: int, largest: int, factor: int) -> list[int]:
    """From the smallest to the largest, each so many times the one before."""
    found = [smallest]
    while found[-1] * factor <= largest:
        found.append(found[-1] * factor)
    return found


def main() -> int:
    """Measures, prints and writes; 1 if a number was wrong."""
    parser = argparse.ArgumentParser(prog="benchmarks.collectives.kinds", description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--devices", default="auto", help="auto, cuda:0,1 or cpu:4")
    parser.add_argument("--smallest", type=size, default="4")
    parser.add_argument("--largest", type=size, default="4G")
    parser.add_argument("--factor", type=positive, default=4, help="from one size to the next")
    parser.add_argument("--forms", nargs="*", choices=("eager", "graph"), default=None)
    parser.add_argument("--type", choices=DTYPES, default="bfloat16")
    parser.add_argument("--seconds", type=float, default=3600.0, help="no row starts after that")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    start = time.perf_counter()
    mesh = fabric.parse_devices(args.devices)
    on_gpus = mesh.type == "cuda"
    ours = Communicator(mesh)
    several = on_gpus and len(set(mesh.devices)) == len(mesh)
    nccl = Communicator(mesh, algorithm="nccl") if several else None
    forms = args.forms or (("graph", "eager") if on_gpus else ("eager",))
    each = sizes(args.smallest, args.largest, args.factor)
    wanted = [(form, kind, bytes_) for form in forms for kind in args.kinds for bytes_ in each]
    rows = []
    for form, kind, bytes_ in wanted:
        if time.perf_counter() - start > args.seconds:
            break
        rows.append(row_of(ours, nccl, kind, bytes_, form, args.type))
        rows[-1]["after_s"] = round(time.perf_counter() - start, 1)
        print(json.dumps(rows[-1]), flush=True)
    if args.json:
        head = {"benchmark": "all kinds of collectives", **provenance()}
        head |= {"ranks": len(mesh), "devices": [str(device) for device in mesh.devices]}
        head["nccl"] = _C.nccl_version() if nccl else None
        text = ",\n".join(map(json.dumps, rows))  # a line a row
        args.json.write_text(f'{json.dumps(head)[:-1]}, "rows": [\n{text}]}}\n', encoding="utf-8")
    parts = [row[key] for row in rows for key in ("out of place", "in place") if key in row]
    wrong = sum(part["wrong"] for part in parts)
    print(f"{len(rows)} of {len(wanted)} rows, {wrong} wrong, {time.perf_counter() - start:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
