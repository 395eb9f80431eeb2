"""Wholes: the parameters that a user gave, where each rank's piece of one is a leaf to update.

Inside, an optimizer knows leaves only. What it shows and takes as state is that of the whole
parameter, so that state moves between meshes, and to and from one device, as parameters do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vibetensor import _C

State = dict[str, Any]

_COUNT = "step"  # the entry of state that is a number, the same for all pieces


class Wholes:
    """Which leaves are pieces of one fabric tensor."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[_C.Tensor, _C.FabricTensor]] = {}  # by id of the first leaf

    def leaves(self, param: Any) -> list[Any]:
        """The leaves of a parameter given alone, or as a (name, parameter) pair."""
        bare = param[1] if isinstance(param, tuple) and len(param) == 2 else param
        if not isinstance(bare, _C.FabricTensor):
            return [bare]
        leaves = bare._leaves()
        self._of[id(leaves[0])] = leaves[0], bare
        return leaves

    def _whole(self, leaf: _C.Tensor) -> _C.FabricTensor | None:
        found = self._of.get(id(leaf))
        return None if found is None else found[1]

    def spans(self, leaves: list[_C.Tensor]) -> list[tuple[int, int]]:
        """For each parameter, from which to which of `leaves` its own are."""
        found = []
        start = 0
        while start < len(leaves):
            whole = self._whole(leaves[start])
            found.append((start, start + (1 if whole is None else len(whole.mesh.devices))))
            start = found[-1][1]
        return found

    def shape(self, leaf: _C.Tensor) -> list[int]:
        """Of the parameter whose first leaf this is."""
        whole = self._whole(leaf)
        return list(leaf.shape if whole is None else whole.shape)

    def joined(self, leaves: list[_C.Tensor], states: list[State | None]) -> State | None:
        """The state of a parameter from that of its leaves; it shares their memory.

        A piece without an update yet is one without elements, where others have had one.
        """
        whole = self._whole(leaves[0])
        if whole is None:
            return states[0]
        first = next((state for state in states if state is not None), None)
        if first is None:
            return None
        joined: State = {}
        for name, value in first.items():
            if name == _COUNT:
                joined[name] = value
                continue
            pieces = [
                _C.ops.zeros_like(leaf, dtype=value.dtype) if state is None else state[name]
                for leaf, state in zip(leaves, states, strict=True)
            ]
            joined[name] = _C.from_local_shards(pieces, whole.mesh, whole.placement)
        return joined

    def cut(self, leaf: _C.Tensor, state: Mapping[str, Any]) -> list[State]:
        """A copy of a parameter's state, whole or on any mesh, for each of its leaves."""
        whole = self._whole(leaf)
        if whole is None:
            return [{name: _alone(value) for name, value in state.items()}]
        cut: list[State] = [{} for _ in whole.mesh.devices]
        for name, value in state.items():
            pieces = [value] * len(cut) if name == _COUNT else _placed_as(whole, value)
            for one, piece in zip(cut, pieces, strict=True):
                one[name] = _alone(piece)
        return cut


def _alone(value: Any) -> Any:
    if isinstance(value, _C.FabricTensor):
        value = value.full_tensor()
    return value.detach().clone() if isinstance(value, _C.Tensor) else value


def _placed_as(whole: _C.FabricTensor, value: Any) -> list[Any]:
    if isinstance(value, _C.FabricTensor):
        if value.mesh == whole.mesh:
            return value.reshard(whole.placement).to_local_shards()
        value = value.full_tensor()
    if not isinstance(value, _C.Tensor):
        return [value] * len(whole.mesh.devices)
    return _C.distribute(value.detach(), whole.mesh, whole.placement).to_local_shards()
