"""The long random mixture of collectives, without a wait for the device behind each of them.

    python tests/collectives/endurance_quick.py --device cuda:0 --ranks 4 --seconds 60 --json FILE

Several threads draw batches of the cases of endurance.py, each with communicators of its own for
all ranks and for some of them, on streams of their own or the default ones. All outputs of a rank
in a batch are parts of one block, at any alignment, with a mark between and in them beforehand; the
device compares the block with what numpy worked out, so that a number missed, or written beside its
place, counts. The host reads those counts once for many batches. Another thread multiplies
matrices, and takes and gives back memory of any size.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import threading
import time
from collections import Counter
from pathlib import Path

import endurance

import vibetensor.torch as torch
from vibetensor import collectives, fabric

MARK = -77.0  # no result
WINDOW = 64  # batches between two looks at the counts


class Lane:
    """One thread's communicators, cases and streams, and what it has done."""

    def __init__(self, mesh: fabric.Mesh, seed: int, **options: object) -> None:
        self.chance = random.Random(seed)
        self.made: Counter[str] = Counter()
        self.windows: list[tuple[str, torch.Tensor]] = []
        self.styles = ["group"] * 8 + ["fresh", "threads"]
        comm = collectives.Communicator(mesh, **options)
        self.groups = [comm]
        for _ in range(2 if len(mesh) > 2 else 0):
            count = self.chance.randrange(2, len(mesh))
            self.groups.append(comm.subgroup(self.chance.sample(range(len(mesh)), count)))
        self.cases = {
            id(group): [endurance.make_case(group, self.chance) for _ in range(40)]
            for group in self.groups
        }
        self.devices = list(dict.fromkeys(mesh.devices))
        most = 512 + max(case.largest() for cases in self.cases.values() for case in cases)
        self.marks = {str(d): torch.full((most,), MARK, device=d) for d in self.devices}
        on_gpu = mesh[0].type == "cuda"
        self.streams = [torch.cuda.Stream(d) for d in self.devices] if on_gpu else []
        for device in self.devices if on_gpu else []:
            torch.cuda.synchronize(device)

    def batch(self) -> int:
        """Makes one batch of calls, and queues its comparison; returns how many they were."""
        chance, group = self.chance, self.chance.choice(self.groups)
        batch = chance.choices(self.cases[id(group)], k=chance.randrange(1, 50))
        return self._batch(group, batch, chance.choice(self.styles))

    def _batch(
        self, group: collectives.Communicator, batch: list[endurance.Case], style: str
    ) -> int:
        chance = self.chance
        with contextlib.ExitStack() as stack:
            # A rank's thread has the default streams of its own.
            for stream in self.streams if style != "threads" and chance.random() < 0.5 else []:
                stack.enter_context(torch.cuda.stream(stream))
            blocks = None
            if style == "fresh":
                outputs = [case.outputs() for case in batch]
            else:
                outputs, blocks, wanted = self._parts(batch)
            if style == "threads":
                endurance.by_rank_threads(batch, outputs, chance.randrange(1 << 30))
            else:
                self._call(batch, outputs)
            if blocks is None:
                blocks, wanted = self._joined(batch, outputs)
            what = f"{style} calls of {group}: " + ", ".join(
                f"{c.kind} {c.op} root {c.root} of {c.inputs[0].numel()}" for c in batch
            )
            for got, want in zip(blocks, wanted, strict=True):
                self.windows.append((what, (got != want).sum()))
        for case in batch:
            self.made[case.kind] += 1
        self.made[f"called: {style}"] += len(batch)
        return len(batch)

    def check(self) -> None:
        """Reads the counts since the last look.

        Raises:
            AssertionError: a batch had wrong numbers; the message names its calls.
        """
        for device in self.devices:
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # the counts are of several streams
            mine = [(what, count) for what, count in self.windows if count.device == device]
            for what, wrong in zip(
                (what for what, _ in mine),
                torch.stack([count for _, count in mine]).tolist() if mine else [],
                strict=True,
            ):
                if wrong:
                    raise AssertionError(f"{wrong} wrong numbers on {device}: {what}")
        self.windows.clear()

    def _parts(
        self, batch: list[endurance.Case]
    ) -> tuple[list[list[torch.Tensor | None]], list[torch.Tensor], list[torch.Tensor]]:
        """Outputs as parts of a block a rank, those blocks, and what they must become."""
        gaps = [self.chance.choice([0, 1, 2, 3, 4, 32, 511]) for _ in batch]
        outputs: list[list[torch.Tensor | None]] = [[] for _ in batch]
        blocks, wanted = [], []
        for rank, device in enumerate(batch[0].group.mesh.devices):
            mark = self.marks[str(device)]
            starts, ends, places, end = [mark[:1]], [mark[:1]], [], 1
            for case, gap in zip(batch, gaps, strict=True):
                want = case.wanted[rank]
                size = 0 if want is None else want.numel()
                if size:
                    starts.append(case.inputs[rank] if case.kind == "broadcast" else mark[:size])
                    ends.append(want)
                starts.append(mark[:gap])
                ends.append(mark[:gap])
                places.append((end, end + size))
                end += size + gap
            block = torch.cat(starts)
            for case, output, (first, last) in zip(batch, outputs, places, strict=True):
                none = case.wanted[rank] is None and case.kind != "broadcast"
                output.append(None if none else block[first:last])
            blocks.append(block)
            wanted.append(torch.cat(ends))
        return outputs, blocks, wanted

    def _joined(
        self, batch: list[endurance.Case], outputs: list[list[torch.Tensor | None]]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Outputs that have memory of their own, and what they must be, one behind another."""
        blocks, wanted = [], []
        for rank, device in enumerate(batch[0].group.mesh.devices):
            pairs = [
                (output[rank], case.wanted[rank])
                for case, output in zip(batch, outputs, strict=True)
                if case.wanted[rank] is not None
            ]
            one = self.marks[str(device)][:1]
            blocks.append(torch.cat([one, *(got for got, _ in pairs)]))
            wanted.append(torch.cat([one, *(want for _, want in pairs)]))
        return blocks, wanted

    def _call(self, batch: list[endurance.Case], outputs: list[list[torch.Tensor | None]]) -> None:
        """Starts them in order, and has the streams wait for them in any order."""
        works = []
        for case, output in zip(batch, outputs, strict=True):
            works.append(case.start(output))
            if self.chance.random() < 0.5:
                works.pop(self.chance.randrange(len(works))).wait()
        for work in works:
            work.wait()


def multiply(devices: list[object], sizes: range, chance: random.Random, done: Counter) -> None:
    """One product of matrices, and blocks of any size taken and given back; counts them."""
    device, size = chance.choice(devices), chance.choice(sizes)
    ones = torch.ones(size, size, device=device)
    product = ones @ ones
    blocks = [torch.empty(chance.randrange(1, 1 << 20), device=device) for _ in range(4)]
    blocks[0].zero_()
    if float(product[-1, -1]) != size:
        raise AssertionError("a matrix product beside the collectives is wrong")
    done["products"] += 1
    done["blocks taken and given back"] += 2 + len(blocks)


def run(
    mesh: fabric.Mesh,
    calls: int,
    seconds: float = float("inf"),
    seed: int = 0,
    lanes: int = 2,
    report: float = 0.0,
    products: range = range(1, 512),
    in_turn: bool = False,
    **of_communicators: object,
) -> Counter[str]:
    """Makes at least `calls` collectives or ends after `seconds`; returns what was made.

    Args:
        mesh: the ranks.
        lanes: threads; every second one stages everything.
        report: seconds between lines on stdout; 0 for none.
        products: sizes of the matrices that are multiplied beside.
        in_turn: have one thread do everything, the batches of all lanes and the products in turn.
        of_communicators: options of theirs.

    Raises:
        AssertionError: numbers were wrong.
    """
    all_lanes = [
        Lane(mesh, seed * 100 + n, always_stage=n % 2 == 1, **of_communicators)
        for n in range(lanes)
    ]
    stop, errors, done = threading.Event(), [], Counter()
    devices, sizes = list(dict.fromkeys(mesh.devices)), random.Random(1)
    if in_turn:
        for lane in all_lanes:
            lane.styles = ["group", "group", "fresh"]  # none with a thread a rank
    start = time.monotonic()

    def made() -> int:
        return sum(lane.made[kind] for lane in all_lanes for kind in endurance.KINDS)

    def guarded(work: object, *args: object) -> None:
        try:
            work(*args)
        except BaseException as error:
            errors.append(error)
            stop.set()

    def lane_thread(lane: Lane) -> None:
        while not stop.is_set():
            for _ in range(WINDOW):
                lane.batch()
                if stop.is_set():
                    break
            lane.check()

    def compute() -> None:
        while not stop.is_set():
            multiply(devices, products, sizes, done)
            time.sleep(0.0005)

    def turns() -> None:
        while not stop.is_set():
            for lane in all_lanes:
                lane.batch()
                if len(lane.windows) >= WINDOW:
                    lane.check()
            multiply(devices, products, sizes, done)

    tasks = [(turns,)] if in_turn else [(compute,), *((lane_thread, lane) for lane in all_lanes)]
    workers = [threading.Thread(target=guarded, args=task) for task in tasks]
    for worker in workers:
        worker.start()
    said = start
    while not stop.wait(0.05):
        now = time.monotonic()
        if made() >= calls or now - start > seconds:
            stop.set()
        elif report and now - said > report:
            said = now
            held = endurance.memory(mesh) >> 20
            print(f"{made()} calls in {now - start:.0f} s, nothing wrong, {held} MiB", flush=True)
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    for lane in all_lanes:
        lane.check()
        for group in lane.groups:
            group.synchronize()
        done.update(lane.made)
    done["calls"] = made()
    return done


def main() -> None:
    """Runs a short warm-up and then the long form; prints and writes one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, or as in cuda:0,1")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="ends even so")
    parser.add_argument("--lanes", type=int, default=2, help="threads with their own communicators")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--product", type=int, help="one size for all matrices multiplied beside")
    parser.add_argument("--max-blocks", type=int, default=0, help="of a rank; 0: as many as pay")
    parser.add_argument("--algorithm", default="auto", help="one for all, as copy_engine")
    parser.add_argument("--chunk", type=int, default=0, help="bytes that move as one piece")
    parser.add_argument("--in-turn", action="store_true", help="one thread does everything")
    parser.add_argument("--report", type=float, default=10.0, help="seconds between two lines")
    parser.add_argument("--json", type=Path, help="write what was found to this file")
    args = parser.parse_args()
    if args.device == "cpu":
        mesh = fabric.parse_devices(f"cpu:{args.ranks}")
    else:
        names = [str(d) for d in fabric.parse_devices(args.device).devices]
        mesh = fabric.mesh([names[rank % len(names)] for rank in range(args.ranks)])
    options = {"lanes": args.lanes, "report": args.report}
    options |= {"in_turn": args.in_turn, "max_blocks": args.max_blocks}
    options |= {"algorithm": args.algorithm, "chunk_bytes": args.chunk}
    if args.product:
        options["products"] = range(args.product, args.product + 1)
    first = run(mesh, args.calls // 50, args.seconds / 10, args.seed + 1, **options)
    before, start = endurance.memory(mesh), time.monotonic()
    found = run(mesh, args.calls - first["calls"], args.seconds, args.seed, **options)
    seconds = time.monotonic() - start
    found.update(first)
    from vibetensor.cli.provenance import provenance

    result = {
        "case": "endurance",
        "devices": args.device,
        "ranks": args.ranks,
        "threads": 1 if args.in_turn else args.lanes,
        "max_blocks": args.max_blocks,
        "calls": found.pop("calls"),
        "wrong": 0,
        "seconds": round(seconds, 1),
        "memory_mib": {"before": before >> 20, "after": endurance.memory(mesh) >> 20},
        "counts": dict(sorted(found.items())),
        "algorithms": {k: v["calls"] for k, v in sorted(fabric.stats()["collective"].items())},
        **provenance(),
    }
    print(json.dumps({k: result[k] for k in list(result)[:9]}))
    if args.json:
        args.json.write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
