"""What `bench` knows of each collective: its data, its oracle, and how its bandwidth is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Elements of the result of a rank, where they begin in the repeating pattern of their source, and
# the source: a rank, or None for the reduction over all of them.
Segment = tuple[int, int, int | None]


@dataclass(frozen=True)
class Kind:
    """One collective over n ranks; a tensor is one part, or n parts.

    `bus` is nccl-tests' factor between the bandwidth of the algorithm and that of the links, as a
    function of n. `result` lists what rank r ends with, for parts of `part` elements and n ranks;
    the root is rank 0, and sendrecv sends to the next rank. `in_place` says how input and output
    share memory: "same" tensors, the rank's "part" of the larger one, or not at all ("").
    """

    name: str  # of the communicator's method
    title: str  # of the subcommand
    reduces: bool
    rooted: bool
    input_parts: bool
    output_parts: bool
    in_place: str
    bus: Callable[[int], float]
    result: Callable[[int, int, int], Sequence[Segment]]


def _shared(n: int) -> float:
    return (n - 1) / n


def _once(n: int) -> float:
    return 1.0


KINDS = {
    kind.title: kind
    for kind in (
        Kind(
            "all_reduce", "allreduce", True, False, False, False, "same",
            lambda n: 2 * (n - 1) / n, lambda r, part, n: [(part, 0, None)],
        ),
        Kind(
            "reduce_scatter", "reduce_scatter", True, False, True, False, "part",
            _shared, lambda r, part, n: [(part, r * part, None)],
        ),
        Kind(
            "all_gather", "all_gather", False, False, False, True, "part",
            _shared, lambda r, part, n: [(part, 0, p) for p in range(n)],
        ),
        Kind(
            "broadcast", "broadcast", False, True, False, False, "same",
            _once, lambda r, part, n: [(part, 0, 0)],
        ),
        Kind(
            "reduce", "reduce", True, True, False, False, "same",
            _once, lambda r, part, n: [(part, 0, None)] if r == 0 else [],
        ),
        Kind(
            "all_to_all", "all_to_all", False, False, True, True, "",
            _shared, lambda r, part, n: [(part, r * part, p) for p in range(n)],
        ),
        Kind(
            "gather", "gather", False, True, False, True, "",
            _shared, lambda r, part, n: [(part, 0, p) for p in range(n)] if r == 0 else [],
        ),
        Kind(
            "scatter", "scatter", False, True, True, False, "",
            _shared, lambda r, part, n: [(part, r * part, 0)],
        ),
        Kind(
            "sendrecv", "sendrecv", False, False, False, False, "",
            _once, lambda r, part, n: [(part, 0, (r - 1) % n)],
        ),
    )
}  # fmt: skip
