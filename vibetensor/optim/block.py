"""Block: an arena with the optimizer state that belongs to it, laid out alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from vibetensor import _C
from vibetensor.optim.arena import Arena

Tensor = _C.Tensor

_KEPT_PIECES = 64


class Scaling(NamedTuple):
    """What a scaled loss makes of a step. Both are 0-d float32 on the device, and nothing waits for
    them: `factor` is on all gradients; where `found_inf` is not 0, nothing is updated.
    """

    factor: Tensor | None = None
    found_inf: Tensor | None = None


class Piece(NamedTuple):
    """The same range of every flat tensor of a block.

    `state` holds the range of each tensor of state by name; `master` is None unless parameters are
    in a 16-bit type. `skipped` counts for each parameter, on the device, the updates that found
    infinities; None before the first one that looks for them.
    """

    param: Tensor
    grad: Tensor
    state: dict[str, Tensor]
    master: Tensor | None
    skipped: Tensor | None

    def fused(self, step: int, scaling: Scaling) -> dict[str, Any]:
        """The arguments that the fused update of every kind of optimizer takes."""
        return {
            "step": step,
            "grad_scale": scaling.factor,
            "master": self.master,
            "found_inf": scaling.found_inf,
            "skipped": None if scaling.found_inf is None else self.skipped,
        }


class Block:
    """An arena, its flat optimizer state, and how many updates each parameter has had.

    Parameters in a 16-bit type get a float32 master copy, and state is float32: an average or a
    weight in 16 bits stops moving once updates are small.
    """

    def __init__(self, arena: Arena, state_names: tuple[str, ...]) -> None:
        self.arena = arena
        half = arena.dtype in (_C.float16, _C.bfloat16)
        wide = _C.float32 if half else arena.dtype
        self.flats = {name: arena.new_flat(wide) for name in state_names}
        self.master = arena.flat.to(_C.float32) if half else None
        self.steps = [0] * len(arena.params)  # skipped ones included
        self.skipped: Tensor | None = None  # int32, one for each parameter
        # Equal for parameters that have tried the same updates, which therefore skipped the same.
        self._tried = [0] * len(arena.params)
        self._version = arena.flat._version
        self._pieces: dict[tuple[int, int], Piece] = {}

    def runs(self, attempt: int | None = None) -> Iterator[tuple[Piece, int]]:
        """What to update now: pieces with the number, from 1, of their update.

        Parameters without a gradient are left out; neighbours with the same count of updates make
        one piece, so where all parameters have gradients there is one.

        Args:
            attempt: a number of this step of the optimizer, where the device may skip it.
        """
        self._follow_parameters()
        if attempt is not None and self.skipped is None:
            self.skipped = _C.ops.zeros(len(self.steps), dtype=_C.int32, device=self.arena.device)
            self._pieces.clear()
        for start, end, step in self.ranges():
            self.count(start, end, attempt)
            yield self.piece(start, end), step
        self._version = self.arena.flat._version

    def count(self, start: int, end: int, attempt: int | None) -> int:
        """Counts an update of the parameters of one of `ranges`, or an attempt; its number."""
        step = self.steps[start] + 1
        self.steps[start:end] = [step] * (end - start)
        if attempt is not None:
            self._tried[start:end] = [hash((self._tried[start], attempt))] * (end - start)
        return step

    def settle(self) -> None:
        """Takes what the device skipped off the counts. Waits for it."""
        if self.skipped is None:
            return
        counts = self.skipped.tolist()
        if any(counts):
            self.steps = [step - count for step, count in zip(self.steps, counts, strict=True)]
            self.skipped.zero_()
        self._tried = [0] * len(self.steps)

    def ranges(self) -> Iterator[tuple[int, int, int]]:
        """The parameters of each piece of `runs`, from start to end, and the number of its update;
        counts nothing.
        """
        present = self.arena.present()
        count = len(present)
        i = 0
        while i < count:
            if not present[i]:
                i += 1
                continue
            start, step = i, self.steps[i] + 1
            while i < count and present[i] and self._alike(start, i):
                i += 1
            yield start, i, step

    def moved_together(self, start: int, end: int) -> bool:
        """Whether parameters from start to end have had the same updates."""
        return len(set(self.steps[start:end])) <= 1 and len(set(self._tried[start:end])) <= 1

    def _alike(self, i: int, j: int) -> bool:
        return self.steps[i] == self.steps[j] and self._tried[i] == self._tried[j]

    def follow(self) -> None:
        """Takes in values that were written to the parameters since the last step."""
        self._follow_parameters()
        self._version = self.arena.flat._version

    @contextmanager
    def unfollowed(self) -> Iterator[None]:
        """What is captured within changes nothing yet: the next `follow` has as much to do after
        it as before.
        """
        behind = self.arena.flat._version != self._version
        try:
            yield
        finally:
            self._version = -1 if behind else self.arena.flat._version

    def views(self) -> dict[str, list[Tensor]]:
        """Every tensor of state, the master included, as one view for each parameter."""
        flats = dict(self.flats)
        if self.master is not None:
            flats["master"] = self.master
        return {name: self.arena.pieces(flat) for name, flat in flats.items()}

    def load(self, i: int, state: dict[str, Any]) -> None:
        """Takes the state of parameter i, as `Optimizer.state_dict` gives it."""
        # An optimizer that counts no steps gives none: state at all means that there was an update.
        self.steps[i] = int(state.get("step", 1 if state else 0))
        for name, pieces in self.views().items():
            if state.get(name) is not None:
                pieces[i].copy_(state[name])

    def piece(self, first: int, last: int) -> Piece:
        """The memory of parameters `first` to `last`."""
        start, end = self.arena.offsets[first], self.arena.end(last - 1)
        piece = self._pieces.get((start, end))
        if piece is None:
            if len(self._pieces) >= _KEPT_PIECES:
                self._pieces.clear()

            def cut(flat: Tensor) -> Tensor:
                return flat.narrow(0, start, end - start)

            piece = Piece(
                cut(self.arena.flat),
                cut(self.arena.grad),
                {name: cut(flat) for name, flat in self.flats.items()},
                None if self.master is None else cut(self.master),
                None if self.skipped is None else self.skipped.narrow(0, first, last - first),
            )
            self._pieces[start, end] = piece
        return piece

    def _follow_parameters(self) -> None:
        """Takes values into the master that were written to the parameters since the last step."""
        flat = self.arena.flat
        if self.master is not None and flat._version != self._version:
            changed = self.master.to(flat.dtype).ne(flat)
            self.master.copy_(_C.ops.where(changed, flat.to(_C.float32), self.master))
