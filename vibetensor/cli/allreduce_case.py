"""One line of `bench allreduce`: data, timing, and a check against NumPy in float64."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from vibetensor import _C, fabric
from vibetensor import torch as vt
from vibetensor.collectives import Communicator

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


class Part(TypedDict):
    """A measurement: microseconds a call, GB/s, and how many values were wrong (None: unknown).

    `nccl_us` is NCCL's time for the same tensors and `ratio` ours over it; None if not compared.
    """

    time_us: float
    algbw: float
    busbw: float
    wrong: int | None
    nccl_us: float | None
    ratio: float | None


class Row(TypedDict):
    """One size, type and op."""

    size: int
    count: int
    type: str
    redop: str
    out_of_place: Part
    in_place: Part


class Case:
    """all_reduce of one size, type and op over the ranks of a communicator.

    `nccl` is a communicator of the same mesh to compare with. `symmetric` tensors lie in memory
    that all devices reach directly; others may have to pass through a staging buffer.
    """

    def __init__(
        self,
        communicator: Communicator,
        bytes_: int,
        type: str,
        op: str,
        *,
        nccl: Communicator | None = None,
        symmetric: bool = False,
    ) -> None:
        self.communicator = communicator
        self.nccl = nccl
        self.symmetric = symmetric
        self.type = type
        self.op = op
        self.dtype = DTYPES[type]
        self.count = bytes_ // self.dtype.itemsize
        self.ranks = len(communicator.mesh)
        self.patterns = [self._pattern(rank) for rank in range(self.ranks)]

    def run(self, iterations: int, warmup: int, check: bool) -> Row:
        """Measures both ways and, if asked to, checks one call of each."""
        inputs = self._inputs()
        outputs = self._empty()
        out_of_place = self._measure(inputs, outputs, iterations, warmup)
        in_place = self._measure(outputs, None, iterations, warmup)
        if check:
            self.communicator.all_reduce(inputs, self.op, out=outputs)
            out_of_place["wrong"] = self._wrong(outputs)
            self.communicator.all_reduce(inputs, self.op)
            in_place["wrong"] = self._wrong(inputs)
        return {
            "size": self.count * self.dtype.itemsize,
            "count": self.count,
            "type": self.type,
            "redop": self.op,
            "out_of_place": out_of_place,
            "in_place": in_place,
        }

    def _measure(
        self,
        inputs: list[_C.Tensor],
        outputs: list[_C.Tensor] | None,
        iterations: int,
        warmup: int,
    ) -> Part:
        def time(communicator: Communicator) -> float:
            if warmup > 0:
                _C.time_all_reduce(communicator, inputs, outputs, self.op, warmup)
            return _C.time_all_reduce(communicator, inputs, outputs, self.op, iterations)

        seconds = time(self.communicator)
        theirs = time(self.nccl) if self.nccl is not None else None
        algbw = self.count * self.dtype.itemsize / seconds / 1e9
        busbw = algbw * 2 * (self.ranks - 1) / self.ranks
        return {
            "time_us": round(seconds * 1e6, 3),
            "algbw": round(algbw, 4),
            "busbw": round(busbw, 4),
            "wrong": None,
            "nccl_us": round(theirs * 1e6, 3) if theirs is not None else None,
            "ratio": round(seconds / theirs, 4) if theirs is not None else None,
        }

    def _pattern(self, rank: int) -> NDArray[Any]:
        """One period of a rank's data, exact in the type: float64 or int64."""
        random = np.random.default_rng(1000 + rank)
        if self.type in _EPSILON:
            if self.op == "prod":  # around 1, so that 16 factors stay in range
                return 1 + random.integers(-8, 9, _PERIOD) / 16
            return random.integers(-64, 65, _PERIOD) / 8
        low, high = (0, 8) if self.type == "uint8" else (-7, 8)
        return random.integers(low, high, _PERIOD)

    def _inputs(self) -> list[_C.Tensor]:
        tensors = self._empty()
        periods = -(-self.count // _PERIOD)
        for pattern, tensor in zip(self.patterns, tensors, strict=True):
            one = vt.from_numpy(pattern).to(self.dtype).to(tensor.device)
            repeated = one.expand(periods, _PERIOD).reshape(periods * _PERIOD)
            tensor.copy_(repeated[: self.count])
        return tensors

    def _empty(self) -> list[_C.Tensor]:
        """New tensors, one a rank; their values do not matter."""
        mesh = self.communicator.mesh
        if self.symmetric:
            return fabric.symmetric_zeros(mesh, [self.count], self.dtype)
        return [vt.empty(self.count, dtype=self.dtype, device=device) for device in mesh.devices]

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

    def _wrong(self, tensors: list[_C.Tensor]) -> int:
        """How many values, over all ranks, are not what they should be."""
        if self.count == 0:
            return 0
        first = self._values(tensors[0])
        wrong_of_first = self._wrong_of(first)
        wrong = wrong_of_first
        for tensor in tensors[1:]:
            values = self._values(tensor)
            same = np.array_equal(values, first)  # as all ranks should be
            wrong += wrong_of_first if same else self._wrong_of(values)
        return wrong

    def _values(self, tensor: _C.Tensor) -> NDArray[Any]:
        host = tensor.cpu()
        values: NDArray[Any] = (host.float() if self.type in ("half", "bfloat16") else host).numpy()
        return values

    def _wrong_of(self, values: NDArray[Any]) -> int:
        wanted, allowed = self._wanted()
        wrong = 0
        for start in range(0, self.count, _PERIOD):
            piece = values[start : start + _PERIOD].astype(wanted.dtype)
            end = len(piece)
            # Written so that a NaN counts as wrong.
            near = np.abs(piece - wanted[:end]) <= allowed[:end]
            wrong += end - int(np.count_nonzero(near))
        return wrong
