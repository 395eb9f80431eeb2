"""Collectives beside large matrix products: what they take from each other. One JSON line a case.

A round of a case queues matrix products of bf16 on every device's current stream and several
collectives on the communicator's own streams, which is how a trainer overlaps its gradients. The
same round is run with the products alone and with the collectives alone, all in turn; medians of
the slowest device:

* `slow_down_pct`: how much later the last product ends with the collectives beside;
* `exposed_ms`: how much later everything ends than the products alone would;
* `beside_us`: of one collective then, where they were the last to end; `alone_us` without products.

`share` sets how many collectives there are: the time of the first way's alone over that of the
products. The other ways do as many. With 0.5 they may end before the products do, with 1.5 and more
they are beside each of them.

    python -m benchmarks.collectives.along --devices cuda:0,1 --bytes 16M 64M 256M
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vibetensor.torch as torch
from vibetensor import _C, fabric
from vibetensor.cli.bench import positive, size
from vibetensor.cli.provenance import provenance
from vibetensor.collectives import Communicator
from vibetensor.graphs import CUDAGraph, graph

KINDS = ("all_reduce", "reduce_scatter", "all_gather")
FORMS = ("eager", "graph")
MOST_CALLS = 400  # of a round: what the host queues while one before it runs


@dataclass(frozen=True)
class Times:
    """Of a round, in seconds, on the slowest device: to the last product's end, and to all's."""

    products: float
    whole: float


class Bench:
    """Products and collectives over the ranks of a mesh."""

    def __init__(self, mesh: fabric.Mesh, side: int, products: int) -> None:
        self.mesh = mesh
        self.devices = list(dict.fromkeys(mesh.devices))
        self.cuda = mesh.type == "cuda"
        self.products = products
        self.factors = [
            [torch.randn(side, side, device=d).to(torch.bfloat16) for _ in range(2)]
            for d in self.devices
        ]
        self.communicators: dict[str, Communicator] = {}
        self.aside = [_C.Stream(d) for d in self.devices] if self.cuda else []

    def communicator(self, way: str) -> Communicator:
        """One that works this way: "algorithm[:blocks[:threads[:bytes of a chunk]]]"."""
        algorithm, *limits = way.split(":")
        if algorithm not in _C.algorithms or len(limits) > 3:
            raise ValueError(
                f"along: '{way}' is no way; expected ALGORITHM[:BLOCKS[:THREADS[:CHUNK]]], the "
                f"algorithm one of {', '.join(_C.algorithms)}"
            )
        if way not in self.communicators:
            blocks, threads, chunk = [*map(size, limits), 0, 0, 0][:3]
            self.communicators[way] = Communicator(
                self.mesh,
                algorithm=algorithm,
                max_blocks=blocks,
                threads=threads,
                chunk_bytes=chunk,
            )
        return self.communicators[way]

    def tensors(self, kind: str, bytes_: int) -> tuple[list[Any], list[Any]]:
        """Inputs and outputs of a collective in place, the larger one of `bytes_` in bf16."""
        ranks = len(self.mesh)
        part = bytes_ // 2 // ranks
        whole = fabric.symmetric_zeros(self.mesh, [part * ranks], torch.bfloat16)
        for tensor in whole:  # zeros would take less power
            tensor.copy_(torch.randn(part * ranks, device=tensor.device))
        own = [t[r * part : (r + 1) * part] for r, t in enumerate(whole)]
        return {
            "all_reduce": (whole, whole),
            "reduce_scatter": (whole, own),
            "all_gather": (own, whole),
        }[kind]

    def multiply(self, times: int) -> None:
        """Queues products on all devices."""
        for _ in range(times):
            for a, b in self.factors:
                a @ b

    def wait(self) -> None:
        """Until all that was queued is done."""
        for device in self.devices:
            _C.synchronize(device)

    def round(self, calls: Callable[[], list[Any]], products: int) -> Times:
        """One round from the host. On GPUs other products go before it, while the host queues."""
        if not self.cuda:
            start = time.perf_counter()
            works = calls()
            self.multiply(products)
            middle = time.perf_counter()
            for work in works:
                work.wait()
            self.wait()
            return Times(middle - start, time.perf_counter() - start)
        self.multiply(self.products)
        marks = [[_C.Event(enable_timing=True) for _ in range(3)] for _ in self.devices]
        self._record(marks, 0)
        self.multiply(products)
        works = self._aside([own[0] for own in marks], calls)
        self._record(marks, 1)
        for work in works:
            work.wait()
        self._record(marks, 2)
        self.wait()
        return Times(
            max(start.elapsed_time(middle) for start, middle, _ in marks) * 1e-3,
            max(start.elapsed_time(end) for start, _, end in marks) * 1e-3,
        )

    def captured(self, calls: Callable[[], list[Any]], products: int) -> CUDAGraph:
        """A round as one graph over all devices."""
        self.round(calls, products)
        work = CUDAGraph(self.devices)
        with graph(work):
            started = calls()
            self.multiply(products)
            for each in started:
                each.wait()
        work.replay()
        self.wait()
        return work

    def replay(self, work: CUDAGraph) -> Times:
        """One replay, by the first device's clock; when its products end is not known."""
        self.multiply(1)
        start, end = (_C.Event(enable_timing=True) for _ in range(2))
        stream = _C.current_stream(self.devices[0])
        start.record(stream)
        work.replay()
        end.record(stream)
        self.wait()
        return Times(float("nan"), start.elapsed_time(end) * 1e-3)

    def _aside(self, after: list[Any], calls: Callable[[], list[Any]]) -> list[Any]:
        """Starts calls that follow the events and nothing else that is queued."""
        streams = [_C.current_stream(device) for device in self.devices]
        for stream, event in zip(self.aside, after, strict=True):
            stream.wait_event(event)
            _C.set_stream(stream)
        works = calls()
        for stream in streams:
            _C.set_stream(stream)
        return works

    def _record(self, marks: list[list[Any]], which: int) -> None:
        for device, own in zip(self.devices, marks, strict=True):
            own[which].record(_C.current_stream(device))


@dataclass
class Case:
    """A kind, size and way."""

    bench: Bench
    kind: str
    bytes_: int
    way: str
    form: str
    share: float

    @property
    def contest(self) -> tuple[object, ...]:
        """What all ways have in common that are compared."""
        return self.kind, self.bytes_, self.form, self.share

    def run(self, rounds: int, count: int | None) -> dict[str, Any]:
        """Measures the three rounds in turn, of so many collectives; None: of the share."""
        communicator = self.bench.communicator(self.way)
        inputs, outputs = self.bench.tensors(self.kind, self.bytes_)
        call = getattr(communicator, self.kind)
        op = ["avg"] if self.kind != "all_gather" else []  # which keeps values in range

        def start(count: int) -> Callable[[], list[Any]]:
            return lambda: [call(inputs, *op, out=outputs, async_op=True) for _ in range(count)]

        products = self.bench.products
        self.bench.round(start(2), products)
        how = self._how()
        once = self.bench.round(start(8), 0).whole / 8
        whole = self.bench.round(start(0), products).whole
        count = count or max(1, min(MOST_CALLS, round(self.share * whole / once)))
        rows = [(count, products), (0, products), (count, 0)]
        if self.form == "graph":
            graphs = [self.bench.captured(start(calls), n) for calls, n in rows]
            times = [[self.bench.replay(work) for work in graphs] for _ in range(rounds)]
        else:
            times = [
                [self.bench.round(start(calls), n) for calls, n in rows] for _ in range(rounds)
            ]
        communicator.synchronize()
        both, alone, collectives = zip(*times, strict=True)
        return self._row(how, count, both, alone, collectives)

    def _row(self, how: str, count: int, *times: tuple[Times, ...]) -> dict[str, Any]:
        whole, product, collective = (
            statistics.median(t.whole for t in each) * 1e3 for each in times
        )
        last = statistics.median(t.products for t in times[0]) * 1e3
        eager = self.form == "eager"
        end = last if eager else product
        return {
            "kind": self.kind, "bytes": self.bytes_, "way": self.way, "algorithm": how,
            "form": self.form, "share": self.share, "collectives": count,
            "products": self.bench.products,
            "products_ms": round(product, 4),
            "alone_us": round(collective / count * 1e3, 2),
            "products_beside_ms": round(last, 4) if eager else None,
            "together_ms": round(whole, 4),
            "beside_us": round(whole / count * 1e3, 2) if whole > 1.01 * end else None,
            "slow_down_pct": round((last / product - 1) * 100, 2) if eager else None,
            "exposed_ms": round(whole - product, 4),
            "exposed_share": round((whole - product) / collective, 4),
        }  # fmt: skip

    def _how(self) -> str:
        for event in reversed(fabric.events(64)):
            if event.kind == "collective" and event.what == self.kind:
                return event.how or "-"
        return "-"


def cases(bench: Bench, args: argparse.Namespace) -> Iterator[Case]:
    """Those that the machine can run: graphs and NCCL on GPUs only."""
    for kind, bytes_, share, form in itertools.product(
        args.kinds, args.bytes, args.share, args.forms
    ):
        for name in args.ways:
            if bench.cuda or (form == "eager" and not name.startswith("nccl")):
                yield Case(bench, kind, bytes_, name, form, share)


def main() -> int:
    """Runs the cases, and prints a line for each."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.collectives.along",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--devices", default="auto", help="auto, cpu:4, cuda:0,1 or all")
    parser.add_argument("--ranks", type=positive, default=None, help="that share the devices")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["all_reduce"])
    parser.add_argument("--bytes", nargs="+", type=size, default=[16 << 20, 64 << 20, 256 << 20])
    parser.add_argument(
        "--ways", nargs="+", default=["auto", "nccl"], metavar="ALGO[:BLOCKS[:THREADS[:CHUNK]]]"
    )
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=["eager"])
    parser.add_argument("--share", nargs="+", type=float, default=[0.5, 1.5])
    parser.add_argument("--side", type=positive, default=8192, help="of the square matrices")
    parser.add_argument("--products", type=positive, default=6, help="of a round")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--json", type=Path, help="file for the lines and facts about the machine")
    args = parser.parse_args()
    bench = Bench(fabric.parse_devices(args.devices, ranks=args.ranks), args.side, args.products)
    rows: list[dict[str, Any]] = []
    counts: dict[tuple[object, ...], int] = {}
    for case in cases(bench, args):
        rows.append(case.run(args.rounds, counts.get(case.contest)))
        counts[case.contest] = rows[-1]["collectives"]
        print(json.dumps(rows[-1]), flush=True)
        if args.json:
            result = {"benchmark": "collectives beside products", **provenance()}
            result |= {"mesh": args.devices, "ranks": len(bench.mesh), "side": args.side}
            args.json.write_text(json.dumps({**result, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
