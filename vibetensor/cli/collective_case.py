"""One line of `bench`: data, timing, and a check against NumPy in float64."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from vibetensor import _C, fabric
from vibetensor import torch as vt
from vibetensor.cli.collective_kinds import KINDS, Kind
from vibetensor.collectives import Communicator
from vibetensor.graph_timing import seconds_in_graph

# The names of nccl-tests, and the types here.
DTYPES: dict[str, Any] = {
    "int8": vt.int8,
    "uint8": vt.uint8,
    "int32": vt.int32,
    "int64": vt.int64,
    "half": vt.float16,
    "bfloat16": vt.bfloat16,
    "float": vt.float32,
    "double": vt.float64,
}
# What one rounding in the type of the result may be off, relative.
_EPSILON = {"half": 2.0**-11, "bfloat16": 2.0**-8, "float": 2.0**-24, "double": 2.0**-53}
# The data repeats after a prime number of elements, so that no cut of the work falls into step with
# it, while checking a gigabyte stays quick.
_PERIOD = 65521
# From so many elements on, a result is compared where it lies, in pieces of so many periods.
_LARGE, _PIECE = 2**24, 1024


Tensors = list[Any]  # one a rank; None where a rank has none


class Part(TypedDict):
    """A measurement: microseconds a call, GB/s, and how many values were wrong (None: unknown).

    `p50_us` and `p99_us` are over runs of several calls each. `nccl_us` is NCCL's time for the same
    tensors and `ratio` ours over it; None if not compared.
    """

    time_us: float
    p50_us: float
    p99_us: float
    algbw: float
    busbw: float
    wrong: int | None
    nccl_us: float | None
    ratio: float | None


class Row(TypedDict):
    """One size, type and op. `in_place` is None for kinds that have no such form."""

    kind: str
    size: int
    count: int
    type: str
    redop: str
    root: int
    algorithm: str
    blocks: int
    out_of_place: Part
    in_place: Part | None


class Case:
    """One kind of collective of one size, type and op over the ranks of a communicator.

    `bytes_` is the size of a rank's larger tensor, as in nccl-tests. `nccl` is a communicator of
    the same mesh to compare with. `symmetric` tensors lie in memory that all devices reach
    directly; others may have to pass through a staging buffer. `graph` is the number of calls that
    are captured in one graph over all GPUs and timed there; 0 times calls from the host. `blocks`
    is the limit that the communicator was given, for the table.
    """

    def __init__(
        self,
        communicator: Communicator,
        bytes_: int,
        type: str,
        op: str,
        *,
        kind: Kind = KINDS["allreduce"],
        nccl: Communicator | None = None,
        symmetric: bool = False,
        graph: int = 0,
        blocks: int = 0,
    ) -> None:
        self.communicator = communicator
        self.kind = kind
        self.nccl = nccl
        self.symmetric = symmetric
        self.graph = graph
        self.blocks = blocks
        self.type = type
        self.op = op
        self.dtype = DTYPES[type]
        self.ranks = len(communicator.mesh)
        parts = self.ranks if kind.input_parts or kind.output_parts else 1
        self.part = bytes_ // self.dtype.itemsize // parts  # elements
        self.count = self.part * parts  # of the larger tensor
        self.input_count = self.part * (self.ranks if kind.input_parts else 1)
        self.output_count = self.part * (self.ranks if kind.output_parts else 1)
        self.patterns = [self._pattern(rank) for rank in range(self.ranks)]
        self.algorithm = "-"  # of the calls measured last

    def run(self, iterations: int, warmup: int, check: bool) -> Row:
        """Measures both ways and, if asked to, checks one call of each."""
        inputs, outputs = self._inputs(), self._outputs()
        out_of_place = self._measure(inputs, outputs, iterations, warmup)
        if check:
            self._call(self.communicator, self._fill(inputs), outputs)
            out_of_place["wrong"] = self._wrong(outputs)
        in_place: Part | None = None
        if self.kind.in_place:
            inputs, outputs = self._shared(inputs, outputs)
            in_place = self._measure(inputs, outputs, iterations, warmup)
            if check:
                self._call(self.communicator, self._fill(inputs), outputs)
                in_place["wrong"] = self._wrong(outputs)
        return {
            "kind": self.kind.name,
            "size": self.count * self.dtype.itemsize,
            "count": self.count,
            "type": self.type,
            "redop": self.op if self.kind.reduces else "none",
            "root": 0 if self.kind.rooted else -1,
            "algorithm": self.algorithm,
            "blocks": self.blocks,
            "out_of_place": out_of_place,
            "in_place": in_place,
        }

    def _call(self, communicator: Communicator, inputs: Tensors, outputs: Tensors) -> None:
        self._timed(communicator, inputs, outputs, 1)

    def _timed(
        self, communicator: Communicator, inputs: Tensors, outputs: Tensors, calls: int
    ) -> float:
        to = [(rank + 1) % self.ranks for rank in range(self.ranks)]
        return _C.time_collective(
            communicator,
            self.kind.name,
            inputs,
            outputs,
            self.op if self.kind.reduces else "sum",
            0,
            to if self.kind.name == "sendrecv" else [],
            calls,
        )

    def _seconds(
        self,
        communicator: Communicator,
        inputs: Tensors,
        outputs: Tensors,
        iterations: int,
        warmup: int,
    ) -> list[float]:
        """Seconds a call, of up to ten runs of several calls."""
        runs = min(10, iterations)
        if self.graph:
            devices = sorted({str(device) for device in communicator.mesh.devices})
            call = self._captured_call(communicator, inputs, outputs)
            times = seconds_in_graph(
                call, devices, calls=self.graph, replays=max(runs, 3), warmup=max(warmup, 1)
            )
            communicator.synchronize()
            return times
        if warmup > 0:
            self._timed(communicator, inputs, outputs, warmup)
        calls = [iterations // runs + (run < iterations % runs) for run in range(runs)]
        return [self._timed(communicator, inputs, outputs, count) for count in calls]

    def _captured_call(
        self, communicator: Communicator, inputs: Tensors, outputs: Tensors
    ) -> Callable[[], object]:
        call = getattr(communicator, self.kind.name)
        name = self.kind.name
        if name == "broadcast":
            return lambda: call(outputs, 0)
        if name == "reduce":
            return lambda: call(inputs, 0, self.op, out=outputs[0])
        if name == "gather":
            return lambda: call(inputs, 0, out=outputs[0])
        if name == "scatter":
            return lambda: call(inputs[0], 0, out=outputs)
        if name == "sendrecv":
            to = [(rank + 1) % self.ranks for rank in range(self.ranks)]
            return lambda: call(inputs, to, out=outputs)
        if self.kind.reduces:
            return lambda: call(inputs, self.op, out=outputs)
        return lambda: call(inputs, out=outputs)

    def _measure(self, inputs: Tensors, outputs: Tensors, iterations: int, warmup: int) -> Part:
        times = sorted(self._seconds(self.communicator, inputs, outputs, iterations, warmup))
        seconds = statistics.fmean(times)
        self.algorithm = self._algorithm()  # before NCCL's calls are the last
        theirs = None
        if self.nccl is not None:
            theirs = statistics.fmean(self._seconds(self.nccl, inputs, outputs, iterations, warmup))
        algbw = self.count * self.dtype.itemsize / seconds / 1e9
        busbw = algbw * self.kind.bus(self.ranks)
        return {
            "time_us": round(seconds * 1e6, 3),
            "p50_us": round(times[len(times) // 2] * 1e6, 3),
            "p99_us": round(times[min(len(times) - 1, int(len(times) * 0.99))] * 1e6, 3),
            "algbw": round(algbw, 4),
            "busbw": round(busbw, 4),
            "wrong": None,
            "nccl_us": round(theirs * 1e6, 3) if theirs is not None else None,
            "ratio": round(seconds / theirs, 4) if theirs is not None else None,
        }

    def _algorithm(self) -> str:
        """How the last call was carried out."""
        for event in reversed(fabric.events(64)):
            if event.kind == "collective" and event.what == self.kind.name:
                return event.how or "-"
        return "-"

    def _pattern(self, rank: int) -> NDArray[Any]:
        """One period of a rank's data, exact in the type: float64 or int64."""
        random = np.random.default_rng(1000 + rank)
        if self.type in _EPSILON:
            if self.op == "prod":  # around 1, so that 16 factors stay in range
                return 1 + random.integers(-8, 9, _PERIOD) / 16
            return random.integers(-64, 65, _PERIOD) / 8
        low, high = (0, 8) if self.type == "uint8" else (-7, 8)
        return random.integers(low, high, _PERIOD)

    def _inputs(self) -> Tensors:
        has = self.kind.name not in ("broadcast", "scatter")
        return self._fill(
            [t if has or r == 0 else None for r, t in enumerate(self._new(self.input_count))]
        )

    def _outputs(self) -> Tensors:
        """New tensors, one a rank; their values do not matter."""
        has = self.kind.name not in ("reduce", "gather")
        return [t if has or r == 0 else None for r, t in enumerate(self._new(self.output_count))]

    def _shared(self, inputs: Tensors, outputs: Tensors) -> tuple[Tensors, Tensors]:
        """Inputs and outputs of a call in place."""
        if self.kind.in_place == "same":
            tensors = self._new(self.count)
            return (
                [None if t is None else own for t, own in zip(inputs, tensors, strict=True)],
                [None if t is None else own for t, own in zip(outputs, tensors, strict=True)],
            )

        def own(rank: int, whole: Any) -> Any:
            return whole[rank * self.part : (rank + 1) * self.part]

        if self.kind.input_parts:
            return inputs, [own(rank, t) for rank, t in enumerate(inputs)]
        return [own(rank, t) for rank, t in enumerate(outputs)], outputs

    def _fill(self, tensors: Tensors) -> Tensors:
        for rank, tensor in enumerate(tensors):
            if tensor is None or tensor.numel() == 0:
                continue
            count = tensor.numel()
            periods = -(-count // _PERIOD)
            one = vt.from_numpy(self.patterns[rank]).to(self.dtype).to(tensor.device)
            repeated = one.expand(periods, _PERIOD).reshape(periods * _PERIOD)
            tensor.copy_(repeated[:count])
        return tensors

    def _new(self, count: int) -> list[_C.Tensor]:
        mesh = self.communicator.mesh
        if self.symmetric:
            return fabric.symmetric_zeros(mesh, [count], self.dtype)
        return [vt.empty(count, dtype=self.dtype, device=device) for device in mesh.devices]

    def _wanted(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """One period of the result, and how far off each value may be."""
        stacked = np.stack(self.patterns)
        if self.op == "prod":
            exact = stacked.prod(0)
        elif self.op in ("min", "max"):
            exact = getattr(stacked, self.op)(0)
        else:
            exact = stacked.sum(0)
        if self.type not in _EPSILON:
            bits = 8 * self.dtype.itemsize
            if bits < 64:  # integers wrap around
                exact = exact & (2**bits - 1)
                if self.type != "uint8":
                    exact = np.where(exact >= 2 ** (bits - 1), exact - 2**bits, exact)
            if self.op == "avg":
                exact = np.trunc(exact / self.ranks).astype(np.int64)
            return exact, np.zeros_like(exact)
        if self.op == "avg":
            exact = exact / self.ranks
        # One rounding in the type; below that, one in float32 or float64 for each rank.
        steps = _EPSILON["double" if self.type == "double" else "float"] * self.ranks
        size = np.abs(exact) if self.op == "prod" else np.abs(stacked).sum(0)
        return exact, _EPSILON[self.type] * np.abs(exact) * 1.01 + steps * size

    def _wrong(self, tensors: Tensors) -> int:
        """How many values, over all ranks, are not what they should be."""
        wrong = 0
        reduced = self._wanted() if self.kind.reduces else None
        before: tuple[NDArray[Any], int] | None = None  # the last rank's values and how many wrong
        same_for_all = self.kind.name in ("all_reduce", "all_gather", "broadcast")
        for rank, tensor in enumerate(tensors):
            segments = self.kind.result(rank, self.part, self.ranks)
            if tensor is None or self.part == 0 or not segments:
                continue
            on_device = self._exact and tensor.numel() >= _LARGE
            values = np.empty(0) if on_device else self._values(tensor)
            if same_for_all and before is not None and np.array_equal(values, before[0]):
                wrong += before[1]
                continue
            found, start = 0, 0
            for count, offset, source in segments:
                if source is None:
                    assert reduced is not None
                    wanted, allowed = reduced
                else:
                    wanted = self.patterns[source]
                    allowed = np.zeros_like(wanted)
                part: Any = (tensor if on_device else values)[start : start + count]
                count_wrong = _wrong_on_device if on_device else _wrong_of
                found += count_wrong(part, wanted, allowed, offset)
                start += count
            before = None if on_device else (values, found)
            wrong += found
        return wrong

    @property
    def _exact(self) -> bool:
        """Whether float32 holds what is wanted exactly: eighths that were moved or added up."""
        added = not self.kind.reduces or self.op in ("sum", "min", "max")
        return added and self.type in ("half", "bfloat16", "float")

    def _values(self, tensor: _C.Tensor) -> NDArray[Any]:
        host = tensor.cpu()
        values: NDArray[Any] = (host.float() if self.type in ("half", "bfloat16") else host).numpy()
        return values


def _wrong_of(
    values: NDArray[Any], wanted: NDArray[Any], allowed: NDArray[Any], offset: int
) -> int:
    """How many values differ from the repeating pattern that begins at `offset`."""
    wanted, allowed = np.roll(wanted, -offset), np.roll(allowed, -offset)
    wrong = 0
    for start in range(0, len(values), _PERIOD):
        piece = values[start : start + _PERIOD].astype(wanted.dtype)
        end = len(piece)
        # Written so that a NaN counts as wrong.
        near = np.abs(piece - wanted[:end]) <= allowed[:end]
        wrong += end - int(np.count_nonzero(near))
    return wrong


def _wrong_on_device(
    values: _C.Tensor, wanted: NDArray[Any], allowed: NDArray[Any], offset: int
) -> int:
    """The same in float32 where the tensor lies: a gigabyte takes milliseconds there.

    What is wanted must be exact in float32.
    """
    # Rounded towards nothing that is allowed.
    bound = np.nextafter(allowed.astype(np.float32), np.float32(0))
    middle, most = (
        vt.from_numpy(np.roll(row, -offset)).to(values.device)
        for row in (wanted.astype(np.float32), bound)
    )
    periods, rest = divmod(values.numel(), _PERIOD)
    body = values[: periods * _PERIOD].view(periods, _PERIOD)
    pieces = [body[start : start + _PIECE] for start in range(0, periods, _PIECE)]
    if rest:
        pieces.append(values[periods * _PERIOD :].view(1, rest))
    wrong = 0
    for piece in pieces:
        width = piece.shape[1]
        # Written so that a NaN counts as wrong.
        near = (piece.float() - middle[:width]).abs() <= most[:width]
        wrong += piece.numel() - int(near.sum())
    return wrong
