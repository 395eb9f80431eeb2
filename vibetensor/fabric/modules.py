"""Modules whose parameters are fabric tensors: replicated, or cut by a plan."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeVar

from vibetensor import _C
from vibetensor._C import Mesh, Placement
from vibetensor.fabric.tensors import Replicate, Shard

if TYPE_CHECKING:
    from vibetensor.nn import Module

    M = TypeVar("M", bound=Module)

__all__ = ["distribute_module"]

# What "column" and "row" mean for the parameters of a layer whose weight is [out, in]: column cuts
# the outputs, row the inputs. Of an embedding, whose weight is [vocabulary, features], the features
# are the outputs.
_Cuts = dict[str, dict[str, int | None]]
_LINEAR: _Cuts = {"column": {"weight": 0, "bias": 0}, "row": {"weight": 1, "bias": None}}
_EMBEDDING: _Cuts = {"column": {"weight": 1}, "row": {"weight": 0}}


def distribute_module(
    module: M, mesh: Mesh, plan: Mapping[str, Placement | str] | None = None
) -> M:
    """Replaces all parameters and buffers of a module by fabric tensors, in place.

    Data-parallel training needs no plan: parameters are replicated, and the batch is distributed
    with `Shard(0)`. A tensor-parallel pair of layers is cut by `{"up": "column", "down": "row"}`:
    the first gives each rank some of the features, the second a term of each output.

    Args:
        module: the model, on any device; its values are kept, gradients are dropped.
        mesh: the ranks.
        plan: names or patterns (`"blocks.*.up"`), the first that fits counting. Of a submodule,
            with "column" or "row": its weight [out, in] and bias are cut along the outputs or the
            inputs. Of a parameter or buffer, with a placement. Everything else is replicated.

    Returns:
        The module.

    Raises:
        ValueError: a pattern that fits nothing, or a word other than "column" and "row".
    """
    plan = dict(plan or {})
    unused = set(plan)
    done: dict[int, _C.FabricTensor] = {}  # tied parameters stay tied
    for prefix, owner in module.named_modules():
        for name in (*owner._parameters, *owner._buffers):
            value = owner.__dict__[name]
            if value is None:
                continue
            pattern = _pattern(plan, prefix, name)
            unused.discard(pattern or "")
            placement = _placement(plan[pattern], owner, name) if pattern else Replicate()
            if id(value) not in done:
                done[id(value)] = _C.distribute(value, mesh, placement)
            owner.__dict__[name] = done[id(value)]
    if unused:
        raise ValueError(
            f"distribute_module: {', '.join(map(repr, sorted(unused)))} fits no submodule and no "
            f"parameter of {type(module).__name__}; its parameters are "
            f"{', '.join(name for name, _ in module.named_parameters())}"
        )
    return module


def _pattern(plan: Mapping[str, Placement | str], prefix: str, name: str) -> str | None:
    """The first pattern that fits: a word the module's name, a placement the tensor's."""
    for pattern, value in plan.items():
        full = prefix if isinstance(value, str) else f"{prefix}.{name}" if prefix else name
        if fnmatchcase(full, pattern):
            return pattern
    return None


def _placement(value: Placement | str, owner: Module, name: str) -> Placement:
    if not isinstance(value, str):
        return value
    if value not in _LINEAR:
        raise ValueError(
            f"distribute_module: expected 'column', 'row' or a placement, got {value!r}"
        )
    cuts = _EMBEDDING if hasattr(owner, "num_embeddings") else _LINEAR
    dim = cuts[value].get(name)
    return Replicate() if dim is None else Shard(dim)
