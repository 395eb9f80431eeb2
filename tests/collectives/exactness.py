"""Every collective against an oracle in float64: as many combinations as time allows.

    python tests/collectives/exactness.py --devices cuda:0 --ranks 2,3,4,8 --seconds 60 --json FILE

A case is a kind, type, reduction, root, size, alignment, algorithm and number of ranks, eager and,
for some, as the replay of a graph; in place or not. Inputs are random numbers that are no multiples
of anything. Counted as wrong is each number that is further from the oracle than one rounding of
its type and the error of adding in float32 (in float64 for float64) allow, or differs at all where
nothing is added. Besides, all ranks must end with the same bits, and every algorithm, run and
replay with the same ones. The order is random but fixed: with less time, fewer cases run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
import zlib
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import vibetensor.torch as torch
from vibetensor import collectives, fabric
from vibetensor.cli.collective_kinds import KINDS, Kind

ALGORITHMS = ["auto", "packets", "lines", "packets2", "one_shot", "two_shot", "push"]
ALGORITHMS += ["copy_engine", "ring", "staged"]
OPS = ["sum", "avg", "prod", "min", "max"]
# One rounding of the type, and of the type that sums are taken in; 0 for exact types.
FLOATS = {
    torch.float64: (2.0**-53, 2.0**-53),
    torch.float32: (2.0**-24, 2.0**-24),
    torch.float16: (2.0**-11, 2.0**-24),
    torch.bfloat16: (2.0**-8, 2.0**-24),
}
INTEGERS = {torch.int64: np.int64, torch.int32: np.int32, torch.int8: np.int8}
INTEGERS |= {torch.uint8: np.uint8}
PERIOD = 4099  # numbers repeat after that many: a prime, so that no cut falls into step with it
SMALL = [0, 1, 2, 3, 7, 8, 15, 17, 31, 63, 64, 65, 127, 129, 255, 1000, 1023, 1025, 4095, 4099]
SMALL += [8191, 8193, 16383, 20011, 32769, 65536, 65537, 100003]  # elements of a part
MIDDLE = [262_147, 1_048_575, 3_000_017, 8_388_609]
LARGE = [64 << 20, (256 << 20) - 24, 1 << 30]  # bytes of the larger tensor
MARK = 99


@lru_cache(maxsize=4096)
def numbers_of(rank: int, count: int, dtype: torch.dtype, prod: bool) -> np.ndarray:
    """One period of a rank's input, rounded to the type, in float64."""
    chance = np.random.default_rng(1000 * rank + count % 997)
    if dtype in INTEGERS:
        low = 0 if dtype is torch.uint8 else -9
        return chance.integers(low, 10, count).astype(np.float64)
    # Products of them stay within float16.
    wide = chance.uniform(0.5, 1.5, count) if prod else chance.standard_normal(count) * 3
    return torch.from_numpy(wide).to(dtype).double().numpy().copy()


class Case:
    """One combination, its data and what the ranks must end with."""

    def __init__(
        self,
        comm: collectives.Communicator,
        kind: Kind,
        dtype: torch.dtype,
        op: str,
        part: int,
        root: int,
        offset: int,
        in_place: bool,
    ) -> None:
        self.comm, self.kind, self.dtype, self.op = comm, kind, dtype, op
        self.part, self.root, self.offset = part, root, offset
        self.devices = list(comm.mesh.devices)
        self.ranks = len(self.devices)
        self.in_place = in_place and bool(kind.in_place)
        self.inputs_size = part * (self.ranks if kind.input_parts else 1)
        self.outputs_size = part * (self.ranks if kind.output_parts else 1)
        count = min(PERIOD, self.inputs_size)
        self.numbers = [numbers_of(r, count, dtype, op == "prod") for r in range(self.ranks)]
        self.periods: dict[tuple[Any, int | None], torch.Tensor] = {}
        self.inputs, self.outputs = self._tensors()

    def same(self) -> str:
        """Cases of one such name have results of the same bits."""
        return (
            f"{self.kind.name} of {self.part} {self.dtype} {self.op} root {self.root} "
            f"{self.ranks} ranks"
        )

    def name(self) -> str:
        return f"{self.same()} offset {self.offset} {'in place' if self.in_place else ''}"

    def fill(self) -> None:
        """Inputs as they are before the call, and no result yet."""
        for rank in range(self.ranks):
            if self.outputs[rank] is not self.inputs[rank] and not self.in_place:
                self.outputs[rank].fill_(MARK)
            self.inputs[rank].copy_(self._stretch(rank, rank, 0, self.inputs_size))

    def call(self) -> None:
        """The collective."""
        comm, name, xs, ys = self.comm, self.kind.name, self.inputs, self.outputs
        if name in ("all_reduce", "reduce_scatter"):
            getattr(comm, name)(xs, self.op, out=ys)
        elif name in ("all_gather", "all_to_all"):
            getattr(comm, name)(xs, out=ys)
        elif name == "broadcast":
            comm.broadcast(xs, self.root)
        elif name == "reduce":
            comm.reduce(xs, self.root, self.op, out=ys[self.root])
        elif name == "gather":
            comm.gather(xs, self.root, out=ys[self.root])
        elif name == "scatter":
            comm.scatter(xs[self.root], self.root, out=ys)
        else:
            comm.sendrecv(xs, [(rank + 1) % self.ranks for rank in range(self.ranks)], out=ys)

    def wrong(self) -> int:
        """How many numbers of the outputs are not what the oracle says."""
        return sum(int(self._wrong_of(rank)) for rank in range(self.ranks))

    def bits(self) -> int:
        """A check sum of all ranks' results."""
        sum_ = 0
        for rank in range(self.ranks):
            if self._segments(rank):
                host = self.outputs[rank].cpu()
                host = host.float() if self.dtype is torch.bfloat16 else host
                sum_ = zlib.crc32(host.numpy().tobytes(), sum_)
        return sum_

    def ranks_differ(self) -> bool:
        """Whether an all-reduce left ranks with results that differ."""
        first = self.outputs[0]
        return self.kind.name == "all_reduce" and not all(
            torch.equal(first, other.to(first.device)) for other in self.outputs[1:]
        )

    def _tensors(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        def on(device: object, size: int) -> torch.Tensor:
            return torch.empty(size + self.offset, dtype=self.dtype, device=device)[self.offset :]

        if self.in_place and self.kind.output_parts:
            outputs = [on(d, self.outputs_size) for d in self.devices]
            return [self._own(t, r) for r, t in enumerate(outputs)], outputs
        inputs = [on(d, self.inputs_size) for d in self.devices]
        if self.in_place and self.kind.input_parts:
            return inputs, [self._own(t, r) for r, t in enumerate(inputs)]
        if self.in_place or self.kind.name == "broadcast":
            return inputs, inputs
        return inputs, [on(d, self.outputs_size) for d in self.devices]

    def _own(self, tensor: torch.Tensor, rank: int) -> torch.Tensor:
        return tensor[rank * self.part : (rank + 1) * self.part]

    def _segments(self, rank: int) -> list[tuple[int, int, int | None]]:
        """What rank `rank` ends with; the table knows them for root 0."""
        name, part, root = self.kind.name, self.part, self.root
        if name in ("reduce", "gather"):
            return list(self.kind.result(0, part, self.ranks)) if rank == root else []
        found = self.kind.result(rank, part, self.ranks)
        if self.kind.rooted:
            return [(count, start, root) for count, start, _ in found]
        return list(found)

    def _reduced(self) -> tuple[np.ndarray, np.ndarray]:
        """One period of the reduction in float64, and the error that it may have."""
        stack = np.stack(self.numbers)
        if self.op in ("min", "max"):
            wanted = getattr(stack, self.op)(0)
            return wanted, np.zeros_like(wanted)
        wanted = stack.prod(0) if self.op == "prod" else stack.sum(0)
        if self.dtype in INTEGERS:  # results wrap around, means are cut off
            if self.op == "avg":
                wanted = np.trunc(wanted / self.ranks)
            wanted = wanted.astype(np.int64).astype(INTEGERS[self.dtype]).astype(np.float64)
            return wanted, np.zeros_like(wanted)
        size = np.abs(stack).prod(0) if self.op == "prod" else np.abs(stack).sum(0)
        if self.op == "avg":
            wanted, size = wanted / self.ranks, size / self.ranks
        own, inner = FLOATS[self.dtype]
        least = 2.0**-24 if self.dtype is torch.float16 else 0.0  # half of its smallest number
        return wanted, own * np.abs(wanted) + self.ranks * inner * size + least

    def _period(self, device: object, source: int | None, what: int) -> torch.Tensor:
        key = (str(device), source, what)
        if key not in self.periods:
            if source is None:
                values = self._reduced()[what]
            else:
                values = self.numbers[source] if what == 0 else np.zeros(1)
            self.periods[key] = torch.from_numpy(np.ascontiguousarray(values)).to(device)
        return self.periods[key]

    def _stretch(
        self, rank: int, source: int | None, start: int, count: int, what: int = 0
    ) -> torch.Tensor:
        """`count` numbers of a source from `start` on, on the device of a rank, in float64."""
        period = self._period(self.devices[rank], source, what)
        length = period.numel()
        if count == 0 or length == 0:
            return period[:0]
        if length == 1:
            return period.expand(count)
        first = start % length
        turned = torch.cat([period[first:], period[:first]]) if first else period
        return turned.repeat(-(-count // length))[:count] if count > length else turned[:count]

    def _wrong_of(self, rank: int) -> int:
        at, wrong = 0, 0
        for count, start, source in self._segments(rank):
            got = self.outputs[rank][at : at + count]
            at += count
            if not count:
                continue
            wanted = self._stretch(rank, source, start, count)
            if source is None and self.dtype in FLOATS and self.op not in ("min", "max"):
                allowed = self._stretch(rank, source, start, count, 1)
                right = (got.double() - wanted).abs() <= allowed
            else:
                right = got == wanted.to(self.dtype)
            wrong += count - int(right.sum())
        return wrong


class Suite:
    """Runs cases and keeps count."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {
            key: Counter() for key in ("kind", "type", "op", "algorithm", "ranks", "size", "how")
        }
        self.cases = self.wrong = self.compared = 0
        self.faults: list[str] = []
        self.known: dict[str, int] = {}  # check sums by case, of whichever algorithm came first

    def run(self, case: Case, algorithm: str, replay: bool) -> None:
        """One case, eager, once more, and as a replay if asked for."""
        case.fill()
        case.call()
        self._judge(case, algorithm, "eager")
        small = max(case.inputs_size, case.outputs_size) <= 1 << 17
        if not small:
            return
        first = case.bits()
        self.compared += case.same() in self.known
        known = self.known.setdefault(case.same(), first)
        if known != first:
            self._fault(case, algorithm, "has other bits than another algorithm or run")
        if replay:
            graph = torch.cuda.CUDAGraph(sorted({str(d) for d in case.devices}))
            case.fill()
            with torch.cuda.graph(graph):
                case.call()
            case.fill()
            graph.replay()
            self._judge(case, algorithm, "replayed")
            if case.bits() != first:
                self._fault(case, algorithm, "has other bits as the replay of a graph")

    def _judge(self, case: Case, algorithm: str, how: str) -> None:
        wrong = case.wrong()
        self.cases += 1
        self.wrong += wrong
        if wrong:
            self._fault(case, algorithm, f"has {wrong} wrong numbers, {how}")
        if case.ranks_differ():
            self._fault(case, algorithm, f"differs between ranks, {how}")
        size = max(case.inputs_size, case.outputs_size) * case.dtype.itemsize
        self.counts["kind"][case.kind.name] += 1
        self.counts["type"][str(case.dtype)] += 1
        self.counts["op"][case.op if case.kind.reduces else "none"] += 1
        self.counts["algorithm"][algorithm] += 1
        self.counts["ranks"][str(case.ranks)] += 1
        self.counts["size"][f"up to {1 << max(size - 1, 0).bit_length()} B"] += 1
        self.counts["how"][how + (", in place" if case.in_place else "")] += 1

    def _fault(self, case: Case, algorithm: str, what: str) -> None:
        self.faults.append(f"{case.name()} by {algorithm}: {what}")
        print(self.faults[-1], flush=True)


def combinations(ranks: list[int], algorithms: list[str], seed: int) -> list[tuple[Any, ...]]:
    """All of them in a random order, each as (kind, type, op, part, ranks, algorithm)."""
    chance = random.Random(seed)
    types = [*FLOATS, *INTEGERS]
    found = [
        (kind, dtype, op, part, n, algorithm)
        for kind in KINDS.values()
        for dtype, part, n, algorithm in itertools.product(types, SMALL + MIDDLE, ranks, algorithms)
        for op in (OPS if kind.reduces else ["sum"])
        # Few of the middle sizes: what is special about a number of elements is in the small ones.
        if part <= SMALL[-1] or chance.random() < 0.1
    ]
    chance.shuffle(found)
    return found


def large(ranks: list[int], algorithms: list[str]) -> list[tuple[Any, ...]]:
    """Up to 1 GiB: every kind and algorithm, in float32 and bfloat16, a byte more or less."""
    found = []
    for size, kind, algorithm in itertools.product(LARGE, KINDS.values(), algorithms):
        number = len(found)
        dtype, n = [torch.float32, torch.bfloat16][number % 2], ranks[number % len(ranks)]
        parts = n if kind.input_parts or kind.output_parts else 1
        part = size // dtype.itemsize // parts - number % 3
        found.append((kind, dtype, "sum", part, n, algorithm))
    return found


def main() -> int:
    """Runs until all is done or time is up; prints and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", default="cpu", help="cpu, or as in cuda:0,1")
    parser.add_argument("--ranks", default="2,3,4,8")
    parser.add_argument("--algorithms", default="", help="all, where they are of GPUs")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cases", type=int, help="at most; the same ones in every run")
    parser.add_argument("--large", type=float, default=0.4, help="share of time for large sizes")
    parser.add_argument("--most", type=int, default=1 << 30, help="elements of a part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    ranks = [int(n) for n in args.ranks.split(",")]
    on_gpu = args.devices != "cpu"
    algorithms = args.algorithms.split(",") if args.algorithms else ALGORITHMS if on_gpu else [""]
    if on_gpu:
        names = [str(device) for device in fabric.parse_devices(args.devices).devices]
    else:
        names = [str(device) for device in fabric.parse_devices(f"cpu:{max(ranks)}").devices]
    comms: dict[tuple[int, str], collectives.Communicator] = {}

    def communicator(n: int, algorithm: str) -> collectives.Communicator:
        if (n, algorithm) not in comms:
            options: dict[str, Any] = {"algorithm": algorithm} if algorithm else {}
            if algorithm == "staged":
                options = {"always_stage": True}
            mesh = fabric.mesh([names[rank % len(names)] for rank in range(n)])
            comms[n, algorithm] = collectives.Communicator(mesh, **options)
        return comms[n, algorithm]

    chance, suite, start = random.Random(args.seed), Suite(), time.monotonic()
    for share, found in (
        (args.large, large(ranks, algorithms)),
        (1.0, combinations(ranks, algorithms, args.seed)),
    ):
        done = 0
        for kind, dtype, op, part, n, algorithm in found:
            if time.monotonic() - start > args.seconds * share or suite.cases == args.cases:
                break
            done += 1
            if part > args.most:
                continue
            case = Case(
                communicator(n, algorithm),
                kind,
                dtype,
                op,
                part,
                zlib.crc32(f"{kind.name} {dtype} {op} {part}".encode()) % n,
                chance.choice([0, 0, 1, 3, 8]),
                chance.random() < 0.4,
            )
            replay = on_gpu and part <= SMALL[-1] and chance.random() < 0.1
            suite.run(case, algorithm or "threads", replay)
        print(f"{done} of {len(found)} combinations", flush=True)
    from vibetensor.cli.provenance import provenance

    result = {
        "case": "exactness",
        "devices": args.devices,
        "cases": suite.cases,
        "wrong": suite.wrong,
        "bits_compared_with_another_run": suite.compared,
        "faults": suite.faults[:100],
        "seconds": round(time.monotonic() - start, 1),
        "counts": {key: dict(sorted(count.items())) for key, count in suite.counts.items()},
        "took": {k: v["calls"] for k, v in sorted(fabric.stats()["collective"].items())},
        **provenance(),
    }
    print(json.dumps({k: result[k] for k in list(result)[1:8]}))
    if args.json:
        args.json.write_text(json.dumps(result) + "\n", encoding="utf-8")
    return 1 if suite.faults else 0


if __name__ == "__main__":
    sys.exit(main())
