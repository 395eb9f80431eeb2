"""A long random mixture of collectives, with other work on the same devices.

    python tests/collectives/endurance.py --device cpu --ranks 4 --calls 1000000

Kinds, sizes, roots, reductions, groups and the way of calling (one thread for all ranks, started
and waited for later, one thread a rank) are drawn at random; outputs are allocated and freed all
the time, and a thread computes beside. Every result is compared with one worked out by numpy.
endurance_quick.py compares less often, for a million of them on GPUs.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import vibetensor.torch as torch
from vibetensor import collectives, fabric

KINDS = ["all_reduce", "reduce_scatter", "all_gather", "broadcast", "reduce", "all_to_all"]
KINDS += ["gather", "scatter", "sendrecv", "barrier"]
PARTED = ("reduce_scatter", "all_to_all", "scatter")


@dataclass
class Case:
    """One collective: its inputs on the devices, and what each rank must get."""

    group: collectives.Communicator
    kind: str
    op: str
    root: int
    inputs: list[torch.Tensor]
    wanted: list[torch.Tensor | None]
    to: list[int] = field(default_factory=list)

    def largest(self) -> int:
        """Elements of the largest input or output."""
        tensors = [*self.inputs, *(want for want in self.wanted if want is not None)]
        return max(tensor.numel() for tensor in tensors)

    def outputs(self) -> list[torch.Tensor | None]:
        """Fresh memory for what the ranks get; the input's own copy for kinds in place."""
        if self.kind == "broadcast":
            return [tensor.clone() for tensor in self.inputs]
        return [None if want is None else torch.empty_like(want) for want in self.wanted]

    def start(self, outputs: list[torch.Tensor | None]) -> collectives.Work:
        comm, out = self.group, outputs
        if self.kind in ("all_reduce", "reduce_scatter"):
            return getattr(comm, self.kind)(self.inputs, self.op, out=out, async_op=True)
        if self.kind in ("all_gather", "all_to_all"):
            return getattr(comm, self.kind)(self.inputs, out=out, async_op=True)
        if self.kind == "reduce":
            return comm.reduce(self.inputs, self.root, self.op, out=out[self.root], async_op=True)
        if self.kind == "gather":
            return comm.gather(self.inputs, self.root, out=out[self.root], async_op=True)
        if self.kind == "scatter":
            return comm.scatter(self.inputs[self.root], self.root, out=out, async_op=True)
        if self.kind == "sendrecv":
            return comm.sendrecv(self.inputs, self.to, out=out, async_op=True)
        if self.kind == "broadcast":
            return comm.broadcast(out, self.root, async_op=True)
        return comm.barrier(async_op=True)

    def arrive(self, rank: int, outputs: list[torch.Tensor | None]) -> None:
        to = self.to[rank] if self.to else None
        source = self.to.index(rank) if self.to else None
        mine = outputs[rank] if self.kind == "broadcast" else self.inputs[rank]
        self.group.arrive(
            rank,
            None if self.kind == "barrier" else mine,
            self.op,
            kind=self.kind,
            out=outputs[rank],
            root=self.root,
            to=to,
            source=source,
        )

    def wrong(self, outputs: list[torch.Tensor | None]) -> bool:
        pairs = zip(outputs, self.wanted, strict=True)
        return any(want is not None and not torch.equal(output, want) for output, want in pairs)


def make_case(group: collectives.Communicator, chance: random.Random) -> Case:
    devices, kind = list(group.mesh.devices), chance.choice(KINDS)
    ranks, root = len(devices), chance.randrange(len(devices))
    op = chance.choice(["sum", "min", "max", "prod", "avg"])
    count = int(chance.choice([0, 1, 7, 64, 1000, 1023, 5000, 20000, 70001]) * chance.random())
    generator = np.random.default_rng(chance.randrange(1 << 30))
    # Small numbers of steps of a half, and means over 2, 4 and 8 ranks: exact in float32.
    low = 1 if op == "avg" and ranks & (ranks - 1) else -4
    size = 0 if kind == "barrier" else count * (ranks if kind in PARTED else 1)
    values = [generator.integers(low, 5, size).astype(np.float32) / 2 for _ in devices]
    if op == "avg" and ranks & (ranks - 1):
        values = [values[0]] * ranks  # the mean of equal numbers
    stack = np.stack(values)
    total = {"sum": stack.sum, "prod": stack.prod, "min": stack.min, "max": stack.max}
    reduced = (stack.mean if op == "avg" else total[op])(0)
    parts = [value.reshape(ranks, -1) for value in values] if kind in PARTED else []
    to = list(range(ranks))
    chance.shuffle(to)
    wanted: list[np.ndarray | None]
    if kind in ("all_reduce", "reduce"):
        wanted = [reduced] * ranks
    elif kind == "reduce_scatter":
        wanted = list(reduced.reshape(ranks, -1))
    elif kind in ("all_gather", "gather"):
        wanted = [np.concatenate(values)] * ranks
    elif kind == "broadcast":
        wanted = [values[root]] * ranks
    elif kind == "scatter":
        wanted = list(parts[root])
    elif kind == "all_to_all":
        wanted = [np.concatenate([part[rank] for part in parts]) for rank in range(ranks)]
    elif kind == "sendrecv":
        wanted = [values[to.index(rank)] for rank in range(ranks)]
    else:
        wanted = [None] * ranks
    if kind in ("reduce", "gather"):
        wanted = [want if rank == root else None for rank, want in enumerate(wanted)]

    def on(device: object, value: np.ndarray | None) -> torch.Tensor | None:
        return None if value is None else torch.from_numpy(value.copy()).to(device)

    return Case(
        group,
        kind,
        op,
        root,
        [on(d, v) for d, v in zip(devices, values, strict=True)],
        [on(d, w) for d, w in zip(devices, wanted, strict=True)],
        to if kind == "sendrecv" else [],
    )


def by_rank_threads(cases: list[Case], outputs: list[list[torch.Tensor | None]], seed: int) -> None:
    """Every rank of a group calls for itself, in a thread of its own, at its own pace."""
    errors: list[BaseException] = []
    group = cases[0].group

    def rank_thread(rank: int) -> None:
        pace = random.Random(seed * 31 + rank)
        try:
            for case, out in zip(cases, outputs, strict=True):
                if pace.random() < 0.1:
                    time.sleep(pace.random() * 3e-4)
                case.arrive(rank, out)
                if pace.random() < 0.3:
                    group.wait(rank)
            group.wait(rank)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=rank_thread, args=(r,)) for r in range(len(group.mesh))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def compute_beside(devices: list[object], stop: threading.Event) -> None:
    chance = random.Random(1)
    while not stop.is_set():
        device = chance.choice(devices)
        size = chance.randrange(1, 96)
        product = torch.ones(size, size, device=device) @ torch.ones(size, size, device=device)
        blocks = [torch.zeros(chance.randrange(1, 5000), device=device) for _ in range(4)]
        if float(product[0, 0]) != size:
            raise AssertionError("a matrix product beside the collectives is wrong")
        del product, blocks


def run(
    mesh: fabric.Mesh,
    calls: int,
    seed: int = 0,
    report: float = 0.0,
    seconds: float = float("inf"),
    **options: object,
) -> int:
    """Makes at least `calls` collectives, and returns how many; raises at the first wrong result.

    Args:
        mesh: the ranks.
        seconds: after which it ends even so.
        report: seconds between lines on stdout; 0 for none.
        options: of the communicator.
    """
    chance = random.Random(seed)
    comm = collectives.Communicator(mesh, **options)
    groups = [comm]
    for _ in range(2 if len(mesh) > 2 else 0):
        members = chance.sample(range(len(mesh)), chance.randrange(2, len(mesh)))
        groups.append(comm.subgroup(members))
    cases = {id(group): [make_case(group, chance) for _ in range(40)] for group in groups}
    stop, failed = threading.Event(), []

    def beside() -> None:
        try:
            compute_beside(list(mesh.devices), stop)
        except BaseException as error:
            failed.append(error)

    other = threading.Thread(target=beside)
    other.start()
    made, start, said = 0, time.monotonic(), time.monotonic()
    try:
        while made < calls and time.monotonic() - start < seconds:
            group = chance.choice(groups)
            batch = chance.choices(cases[id(group)], k=chance.randrange(1, 50))
            if chance.random() < 0.2:
                outputs = [case.outputs() for case in batch]
                by_rank_threads(batch, outputs, chance.randrange(1 << 30))
            else:
                outputs, works = [], []
                for case in batch:
                    outputs.append(case.outputs())
                    works.append(case.start(outputs[-1]))
                    if chance.random() < 0.5:
                        works.pop(chance.randrange(len(works))).wait()
                for work in works:
                    work.wait()
            for case, output in zip(batch, outputs, strict=True):
                if case.wrong(output):
                    raise AssertionError(f"{case.kind} {case.op} root {case.root} is wrong")
            made += len(batch)
            if failed:
                raise failed[0]
            if report and time.monotonic() - said > report:
                said = time.monotonic()
                held = memory(mesh) >> 20
                print(
                    f"{made} calls in {said - start:.0f} s, nothing wrong, {held} MiB", flush=True
                )
    finally:
        stop.set()
        other.join()
    for group in groups:
        group.synchronize()
    return made


def memory(mesh: fabric.Mesh) -> int:
    """Bytes held on the GPUs of the mesh, or by the process where the ranks are on the CPU."""
    gc.collect()
    if mesh[0].type == "cuda":
        return sum(torch.cuda.memory_allocated(device) for device in set(map(str, mesh.devices)))
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, or as in cuda:0,1")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="ends even so")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write what was found to this file")
    parser.add_argument("--stage", action="store_true", help="use staging memory for everything")
    args = parser.parse_args()
    device = f"cpu:{args.ranks}" if args.device == "cpu" else args.device
    mesh = fabric.parse_devices(device, ranks=args.ranks)
    options = {"always_stage": args.stage}
    first = run(mesh, args.calls // 20, args.seed + 1, seconds=args.seconds / 10, **options)
    before, start = memory(mesh), time.monotonic()  # the caches of free memory are full now
    made = run(mesh, args.calls, args.seed, report=10.0, seconds=args.seconds, **options)
    found = {
        "case": "endurance",
        "devices": args.device,
        "ranks": args.ranks,
        "calls": first + made,
        "wrong": 0,
        "seconds": round(time.monotonic() - start, 1),
        "memory_mib": {"before": before >> 20, "after": memory(mesh) >> 20},
    }
    print(json.dumps(found))
    if args.json:
        args.json.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
