"""Optimizer: parameter groups over flat arenas, with state in torch's format."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vibetensor import _C, replay
from vibetensor.autograd import enable_grad, no_grad
from vibetensor.optim.arena import Arena, kind_of
from vibetensor.optim.block import Block, Piece, Scaling
from vibetensor.optim.captured import CapturedStep
from vibetensor.optim.whole import Wholes

Tensor = _C.Tensor


class Optimizer:
    """Base class of the optimizers.

    On the first step the parameters of each group become views of flat arenas (see `Arena`), one
    for each dtype and device. A subclass says which state it keeps (`_state_names`) and updates one
    piece (`_update`).

    Args:
        params: parameters, or `(name, parameter)` pairs, or dicts with "params" and the options of
            that group.
        defaults: options for groups that do not give their own.

    Raises:
        ValueError: no parameters, a parameter given twice, or one that is no leaf.
        TypeError: something else than tensors.
    """

    _counts_steps = (
        True  # whether the state dict shows the number of updates, as torch's does for Adam
    )

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._wholes = Wholes()
        self._attempts = 0  # steps that the device may have skipped
        self._blocks: dict[int, list[Block]] = {}  # by index of the group
        self._loaded: dict[
            int, dict[str, Any]
        ] = {}  # by index of the parameter, until its block is made
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, "
                f"but got {type(params).__name__}"
            )
        given = list(params)
        if not given:
            raise ValueError("optimizer got an empty parameter list")
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with their own options."""
        group = dict(param_group)
        params = group["params"]
        single = isinstance(params, (Tensor, _C.FabricTensor))
        given = [params] if single else params
        params = [leaf for param in given for leaf in self._wholes.leaves(param)]
        seen = {id(param) for other in self.param_groups for param in other["params"]}
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(
                    f"optimizer can only optimize Tensors, but one of the params is {type(param)}"
                )
            if not param.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
            if id(param) in seen:
                raise ValueError("some parameters appear twice, or in more than one group")
            seen.add(id(param))
        group["params"] = params
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self._check(group)
        self.param_groups.append(group)

    def _check(self, group: dict[str, Any]) -> None:
        """Raises ValueError for options out of range."""
        if not group["lr"] >= 0:
            raise ValueError(f"Invalid learning rate: {group['lr']}")
        if not group["weight_decay"] >= 0:
            raise ValueError(f"Invalid weight_decay value: {group['weight_decay']}")

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The tensors of state that parameters of this group need."""
        raise NotImplementedError

    def _update(self, group: dict[str, Any], piece: Piece, step: int, scaling: Scaling) -> None:
        """Updates one piece in place; `step` counts from 1, skipped ones included."""
        raise NotImplementedError

    def _refresh(self, graph: _C.Graph, number: int, group: dict[str, Any], step: int) -> None:
        """Gives a captured update, whose constants are live value `number` of the graph, those of
        update `step` with the options of now.
        """
        raise NotImplementedError

    def _fixed_options(self, group: dict[str, Any]) -> Any:
        """What of the options a captured update has built in; compared before each replay."""
        return None

    # -- stepping ----------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops, or zeroes, the gradients of all parameters."""
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param.grad = None
                elif param.grad is not None:
                    param.grad.zero_()

    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        grad_scale: Tensor | None = None,
        found_inf: Tensor | None = None,
    ) -> Any:
        """Updates every parameter that has a gradient.

        Args:
            closure: computes the loss again (with gradients); its value is returned.
            grad_scale: 0-d float32 factor on all gradients, read on the device.
            found_inf: 0-d float32; where the device finds it not 0, nothing is updated, and the
                step does not count. Nothing waits for it.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        scaling = Scaling(grad_scale, found_inf)
        previous = _C.set_grad_enabled(False)
        recording = replay.recording()
        try:
            if recording is not None:
                recording.actions.append(CapturedStep(self, recording.graph, scaling))
                return loss
            attempt = None if found_inf is None else self.next_attempt()
            for index, group in enumerate(self.param_groups):
                for block in self._ready_blocks(index):
                    for piece, step in block.runs(attempt):
                        self._update(group, piece, step, scaling)
        finally:
            _C.set_grad_enabled(previous)
        return loss

    def next_attempt(self) -> int:
        """A number for a step that the device may skip."""
        self._attempts += 1
        return self._attempts

    def blocks_for_capture(self, index: int) -> list[Block]:
        """The blocks of a group, which must be laid out already: a captured step makes no state.

        Raises:
            RuntimeError: there has been no step yet, or parameters moved since.
        """
        name = type(self).__name__
        if any(block.arena.moved() for block in self._blocks.get(index, [])):
            # Taken in now, the copy would be part of the graph and repeated by each replay.
            raise RuntimeError(
                f"{name}.step: memory of parameters was replaced, as by `param.data = ...`, since "
                "the last step; run one step before the capture"
            )
        blocks = self._fitting_blocks(index)
        if blocks is None:
            raise RuntimeError(
                f"{name}.step: the first step makes the optimizer's state and "
                "cannot be captured; run one step before the capture"
            )
        return blocks

    def use_arenas(self, arenas: Iterable[Arena]) -> None:
        """Steps over arenas that were made elsewhere, in place of making its own.

        Raises:
            ValueError: they do not hold exactly the trainable parameters, each arena those of one
            group.
        """
        self._unload()
        owner = {
            id(param): index
            for index, group in enumerate(self.param_groups)
            for param in group["params"]
            if param.requires_grad
        }
        by_group: dict[int, list[Arena]] = {index: [] for index in range(len(self.param_groups))}
        for arena in arenas:
            groups = {owner.pop(id(param), None) for param in arena.params}
            index = groups.pop()
            if index is None or groups:
                raise ValueError(
                    "use_arenas: an arena holds parameters of several groups or of another model"
                )
            by_group[index].append(arena)
        if owner:
            raise ValueError(f"use_arenas: {len(owner)} trainable parameters are in no arena")
        for index, members in by_group.items():
            self._lay_out(index, members)

    def for_copies(self, copies: Mapping[int, Tensor]) -> Optimizer:
        """The same optimizer, without state yet, that steps `copies[id(param)]` in place of each
        `param`.
        """
        other = copy.copy(self)
        other.param_groups = [
            {**group, "params": [copies[id(param)] for param in group["params"]]}
            for group in self.param_groups
        ]
        other._blocks, other._loaded = {}, {}
        other._wholes = Wholes()
        return other

    def set_masters(self, values: Mapping[int, Tensor]) -> None:
        """Starts the float32 masters of 16-bit parameters in arenas from `values[id(param)]`, of
        which the parameters are the rounded copies.
        """
        with no_grad():
            for block in (block for blocks in self._blocks.values() for block in blocks):
                if block.master is not None:
                    pieces = block.arena.pieces(block.master)
                    for param, piece in zip(block.arena.params, pieces, strict=True):
                        piece.copy_(values[id(param)])

    def _fitting_blocks(self, index: int) -> list[Block] | None:
        blocks = self._blocks.get(index)
        if blocks is not None and all(block.arena.refresh() for block in blocks):
            held = sum(len(block.arena.params) for block in blocks)
            params = self.param_groups[index]["params"]
            if held == len(params) or held == sum(param.requires_grad for param in params):
                return blocks
        return None

    def _ready_blocks(self, index: int) -> list[Block]:
        blocks = self._fitting_blocks(index)
        if blocks is not None:
            return blocks
        # The first step, or the model was moved, cast or (un)frozen since: lay state out (again).
        self._unload()
        kinds: dict[tuple[Any, str], list[Tensor]] = {}
        for param in self.param_groups[index]["params"]:
            if param.requires_grad:
                kinds.setdefault(kind_of(param), []).append(param)
        return self._lay_out(index, [Arena(members) for members in kinds.values()])

    def _lay_out(self, index: int, arenas: list[Arena]) -> list[Block]:
        group = self.param_groups[index]
        blocks = [Block(arena, self._state_names(group)) for arena in arenas]
        index_of = self._index_of()
        with no_grad():
            for block in blocks:
                for i, param in enumerate(block.arena.params):
                    block.load(i, self._loaded.pop(index_of[id(param)], {}))
        self._blocks[index] = blocks
        return blocks

    def _unload(self) -> None:
        self._loaded = self._state_by_index()
        self._blocks.clear()

    # -- state -------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """State of each parameter that has had an update, sharing memory with the optimizer."""
        params = [param for group in self.param_groups for param in group["params"]]
        return {params[i]: state for i, state in self._state_by_index().items()}

    def _index_of(self) -> dict[int, int]:
        """The index in the state dict of each parameter, by its id."""
        params = (param for group in self.param_groups for param in group["params"])
        return {id(param): i for i, param in enumerate(params)}

    def _state_by_index(self) -> dict[int, dict[str, Any]]:
        index_of = self._index_of()
        out = dict(self._loaded)
        for block in (block for blocks in self._blocks.values() for block in blocks):
            block.settle()
            views = block.views()
            for i, param in enumerate(block.arena.params):
                if not block.steps[i] or not (views or self._counts_steps):
                    continue
                state: dict[str, Any] = {}
                if self._counts_steps:
                    state["step"] = _C.tensor(float(block.steps[i]))
                state.update((name, pieces[i]) for name, pieces in views.items())
                out[index_of[id(param)]] = state
        return dict(sorted(out.items()))

    def state_dict(self) -> dict[str, Any]:
        """`{"state": {index: {...}}, "param_groups": [...]}`, as torch lays it out.

        State of a fabric tensor is fabric tensors that lie as it does.
        """
        by_leaf = self._state_by_index()
        state: dict[int, dict[str, Any]] = {}
        groups = []
        count = base = 0
        for group in self.param_groups:
            leaves = group["params"]
            spans = self._wholes.spans(leaves)
            for i, (start, end) in enumerate(spans, count):
                own = [by_leaf.get(base + k) for k in range(start, end)]
                joined = self._wholes.joined(leaves[start:end], own)
                if joined is not None:
                    state[i] = joined
            groups.append({**group, "params": list(range(count, count + len(spans)))})
            count += len(spans)
            base += len(leaves)
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the options and a copy of the state that `state_dict()` gave, of an optimizer whose
        parameters lie on this mesh, another one, or one device.

        Raises:
            ValueError: other groups, other counts of parameters, or state of another shape.
        """
        groups = state_dict["param_groups"]
        if len(groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        loaded: dict[int, dict[str, Any]] = {}
        count = base = 0
        for mine, theirs in zip(self.param_groups, groups, strict=True):
            leaves = mine["params"]
            spans = self._wholes.spans(leaves)
            if len(spans) != len(theirs["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of "
                    f"optimizer's group ({len(theirs['params'])} and {len(spans)})"
                )
            for i, ((start, _), key) in enumerate(zip(spans, theirs["params"], strict=True)):
                state = state_dict["state"].get(key)
                if state is not None:
                    _check_state(count + i, self._wholes.shape(leaves[start]), state)
                    loaded.update(enumerate(self._wholes.cut(leaves[start], state), base + start))
            count += len(spans)
            base += len(leaves)
        for mine, theirs in zip(self.param_groups, groups, strict=True):
            mine.update((name, value) for name, value in theirs.items() if name != "params")
        self._loaded = loaded
        for index, blocks in list(self._blocks.items()):
            self._lay_out(index, [block.arena for block in blocks])

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])


def _check_state(i: int, shape: list[int], state: dict[str, Any]) -> None:
    for name, value in state.items():
        found = list(value.shape) if isinstance(value, (Tensor, _C.FabricTensor)) else []
        if found and found != shape:
            raise ValueError(
                f"loaded state '{name}' of parameter {i} has shape {found}, the parameter has "
                f"{shape}"
            )
