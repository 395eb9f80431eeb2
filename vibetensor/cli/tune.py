"""`vibetensor bench allreduce --tune`: times every algorithm on this machine and keeps the fastest.

Each size is timed in a graph, in place, for 16-bit elements; algorithms differ by bytes, not by
types. A size's winner holds up to the geometric middle between it and the next one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TextIO, TypeAlias

from vibetensor import _C, fabric, tuning
from vibetensor import torch as vt
from vibetensor.collectives import Communicator
from vibetensor.fabric import Mesh
from vibetensor.graph_timing import seconds_in_graph

_K, _M = 2**10, 2**20
_CLEARLY = 0.98  # of the time of the simpler way: less is not worth another row

Timing: TypeAlias = dict[str, Any]  # a size, the fields of a Way, and microseconds a call


class Way(NamedTuple):
    """One way to carry an all_reduce out; 0: the algorithm's own choice."""

    algorithm: str
    blocks: int = 0
    threads: int = 0
    chunk_bytes: int = 0


def ways(bytes_: int, ranks: int) -> list[Way]:
    """What is tried for a size, the simplest first."""
    tried: list[Way] = []
    if bytes_ <= 4 * _M:
        tried += [Way("packets"), Way("packets", 0, 256), Way("lines"), Way("lines", 0, 256)]
        if ranks > 2:
            tried += [Way("packets2", 0, threads) for threads in (0, 128)]
    if bytes_ >= 256 * _K:
        tried += [Way("lines", 0, 1024), Way("two_shot", 64, 512), Way("two_shot", 128, 512)]
    if bytes_ >= _M:
        chunks = (32 * _K, 64 * _K, 128 * _K)
        tried += [Way("push", 128, threads, chunk) for threads in (512, 1024) for chunk in chunks]
    if bytes_ >= 16 * _M:
        # What scratch memory has no room for is cut to what it has.
        pieces = [c * _M for c in (4, 8, 16, 32, 64, 128) if c * _M <= bytes_ // ranks]
        tried += [Way("copy_engine"), *(Way("copy_engine", 0, 0, piece) for piece in pieces)]
        tried += [Way("copy_engine", blocks) for blocks in (64, 96, 264)]
    return [way for way in tried if way.algorithm != "lines" or bytes_ <= 8 * _M]


def run(
    mesh: Mesh, symmetric: bool, sizes: Iterable[int], out: TextIO
) -> tuple[list[tuning.Row], list[Timing]]:
    """Measures, prints, and adds rows to the user's table; the rows, and what was measured."""
    if mesh.type != "cuda" or len(mesh) < 2:
        raise ValueError("bench: --tune is for two ranks and more on GPUs")
    file = tuning.user_file()
    if file is None:
        raise ValueError("bench: --tune has no folder for its table; set XDG_CACHE_HOME or HOME")
    names = {vt.cuda.get_device_name(device) for device in mesh.devices}
    if len(names) > 1:
        raise ValueError(f"bench: --tune wants GPUs of one kind, got {', '.join(sorted(names))}")
    found: list[tuple[int, Way]] = []
    timings: list[Timing] = []
    try:
        for winner in _winners(mesh, symmetric, sizes, timings, out):
            found.append(winner)
    finally:  # what is known when somebody loses patience is worth keeping
        rows = _rows(names.pop(), mesh, found)
        if rows:
            before = tuning.read(file) if file.exists() else []
            packaged = tuning.read(tuning.packaged_file())
            smaller = _below(found[0][0], rows[0], tuning.merged(before, packaged))
            tuning.write(file, tuning.merged([*smaller, *rows], before))
    print(f"# {len(rows)} rows for {len(mesh)} ranks written to {file}", file=out)
    return rows, timings


def _winners(
    mesh: Mesh, symmetric: bool, sizes: Iterable[int], timings: list[Timing], out: TextIO
) -> Iterator[tuple[int, Way]]:
    made: dict[Way, Communicator] = {}
    for bytes_ in sizes:
        if bytes_ < 4:
            continue
        tensors = _tensors(mesh, symmetric, bytes_ // 2)
        best: tuple[float, Way] | None = None
        for way in ways(bytes_, len(mesh)):
            if way not in made:
                made[way] = Communicator(
                    mesh,
                    algorithm=way.algorithm,
                    max_blocks=way.blocks,
                    threads=way.threads,
                    chunk_bytes=way.chunk_bytes,
                )
            seconds = _time(made[way], tensors, bytes_)
            timings.append({"bytes": bytes_, "us": round(seconds * 1e6, 2), **way._asdict()})
            line = f"{bytes_:>12} {seconds * 1e6:10.2f} us  {' '.join(map(str, way))}"
            print(f"  {line}", file=out, flush=True)
            if best is None or seconds < _CLEARLY * best[0]:
                best = (seconds, way)
        assert best is not None
        print(f"* {bytes_:>12} {best[0] * 1e6:10.2f} us  {' '.join(map(str, best[1]))}", file=out)
        yield bytes_, best[1]


def _tensors(mesh: Mesh, symmetric: bool, count: int) -> list[_C.Tensor]:
    if symmetric:
        return fabric.symmetric_zeros(mesh, [count], vt.bfloat16)
    return [vt.zeros(count, dtype=vt.bfloat16, device=device) for device in mesh.devices]


def _time(communicator: Communicator, tensors: list[_C.Tensor], bytes_: int) -> float:
    calls = max(2, min(20, 64 * _M // bytes_))
    devices: list[Any] = sorted({str(device) for device in communicator.mesh.devices})
    times = seconds_in_graph(
        lambda: communicator.all_reduce(tensors), devices, calls=calls, replays=7, warmup=2
    )
    communicator.synchronize()
    return sorted(times)[len(times) // 2]


def _rows(gpu: str, mesh: Mesh, found: list[tuple[int, Way]]) -> list[tuning.Row]:
    rows: list[tuning.Row] = []
    for index, (bytes_, way) in enumerate(found):
        last = index + 1 == len(found)
        if not last and found[index + 1][1] == way:
            continue  # the next row says it for both
        # Nothing is said of what is much larger than what was measured.
        up_to = 2 * bytes_ if last else int(math.sqrt(bytes_ * found[index + 1][0]))
        rows.append(
            {
                "gpu": gpu,
                "ranks": len(mesh),
                "devices": len(set(mesh.devices)),
                "kind": "all_reduce",
                "item_bytes": 0,
                "place": "any",
                "up_to": up_to,
                "algorithm": way.algorithm,
                "blocks": way.blocks,
                "threads": way.threads,
                "chunk_bytes": way.chunk_bytes,
            }
        )
    return rows


def _below(least: int, like: tuning.Row, known: list[tuning.Row]) -> list[tuning.Row]:
    """The rows for the same units as `like` that end before the least size that was measured."""
    return [
        row for row in known if tuning.units(row) == tuning.units(like) and row["up_to"] < least
    ]
