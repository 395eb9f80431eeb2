"""What a captured step of an optimizer leaves to the host: counts, rates, and whether it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from vibetensor import _C
from vibetensor.optim.block import Block, Scaling

if TYPE_CHECKING:
    from vibetensor.optim.optimizer import Optimizer


class _Update(NamedTuple):
    """One captured update: parameters `start` to `end` of a block, whose constants are the live
    values `numbers` of the graph.
    """

    group: dict[str, Any]
    block: Block
    start: int
    end: int
    numbers: range


class CapturedStep:
    """One `step()` inside a captured graph.

    Nothing is counted while it is captured. A replay counts, and gives the graph the constants of
    the update that comes next, from the options that the groups have then.
    """

    def __init__(self, optimizer: Optimizer, graph: _C.Graph, scaling: Scaling) -> None:
        self._optimizer = optimizer
        self._may_skip = scaling.found_inf is not None
        self._blocks: dict[int, list[Block]] = {}
        self._fixed: list[tuple[dict[str, Any], Any]] = []
        self._updates: list[_Update] = []
        self._trained_then = self._trained()
        for index, group in enumerate(optimizer.param_groups):
            blocks = optimizer.blocks_for_capture(index)
            self._blocks[index] = blocks
            self._fixed.append((group, optimizer._fixed_options(group)))
            for block in blocks:
                if self._may_skip and block.skipped is None:
                    raise RuntimeError(
                        f"{type(optimizer).__name__}.step: the first step with found_inf makes "
                        "counters and cannot be captured; run one step before the capture"
                    )
                self._capture(graph, group, block, scaling)
        params = [param for block in self._all() for param in block.arena.params]
        self._placed = _C.PlacedTensors(params)

    def _capture(
        self, graph: _C.Graph, group: dict[str, Any], block: Block, scaling: Scaling
    ) -> None:
        with block.unfollowed():
            for start, end, step in block.ranges():
                first = graph.value_count
                piece = block.piece(start, end)
                self._optimizer._update(group, piece, step, scaling)
                numbers = range(first, graph.value_count)
                if not numbers:
                    raise RuntimeError(
                        f"{type(self._optimizer).__name__}.step: cannot be captured: the update of "
                        f"parameters on {block.arena.device} has its rate and count built in"
                    )
                self._updates.append(_Update(group, block, start, end, numbers))

    def _trained(self) -> list[list[tuple[int, bool]]]:
        return [
            [(id(param), param.requires_grad) for param in group["params"]]
            for group in self._optimizer.param_groups
        ]

    def settle(self) -> None:
        """Takes replaced memory of parameters in, before the step is captured again."""
        for index in self._blocks:
            self._optimizer._fitting_blocks(index)

    def _all(self) -> list[Block]:
        return [block for blocks in self._blocks.values() for block in blocks]

    def check(self) -> str:
        """Why the captured updates are not those of a step now; "" if they are."""
        name = type(self._optimizer).__name__
        if self._optimizer._blocks != self._blocks:
            return f"the state of {name} was replaced, as by load_state_dict"
        if self._placed.moved():
            return f"memory of parameters of {name} was replaced, as by `param.data = ...`"
        if self._trained() != self._trained_then:
            return f"{name} has other parameters, or others of them are frozen"
        for _, block, start, end, _ in self._updates:
            if not block.moved_together(start, end):
                return f"parameters that {name} updates together have had other numbers of updates"
        for group, fixed in self._fixed:
            if self._optimizer._fixed_options(group) != fixed:
                return f"options of {name} changed that its kernels have built in"
        return ""

    def run(self, graph: _C.Graph) -> None:
        """Counts one update, and gives the graph its constants."""
        refresh = self._optimizer._refresh
        attempt = self._optimizer.next_attempt() if self._may_skip else None
        for group, block, start, end, numbers in self._updates:
            block.follow()
            step = block.count(start, end, attempt)
            for number in numbers:
                refresh(graph, number, group, step)
