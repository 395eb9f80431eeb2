"""Fabric tensors: one logical tensor on all ranks of a mesh, used as if it were on one device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vibetensor import _C
from vibetensor._C import FabricTensor, Mesh, Placement

__all__ = [
    "FabricTensor",
    "Partial",
    "Placement",
    "Replicate",
    "Shard",
    "distribute",
    "from_local_shards",
    "gather",
    "reshard",
]


class _Kind(_C.PlacementType):
    """Sees what C++ gives, which is a plain Placement, as one of the classes below."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Placement) and cls.fits(instance)

    def fits(cls, placement: Placement) -> bool:
        """Is the placement of this class?"""
        raise NotImplementedError


class Replicate(Placement, metaclass=_Kind):
    """Every rank has the whole tensor."""

    def __init__(self) -> None:
        super().__init__()

    fits = staticmethod(Placement.is_replicate)


class Shard(Placement, metaclass=_Kind):
    """The tensor is cut along a dimension: ceil(size / ranks) for each rank, less at the end.

    Args:
        dim: the dimension; a negative one counts from the last.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim=dim)

    fits = staticmethod(Placement.is_shard)


class Partial(Placement, metaclass=_Kind):
    """The tensor is the reduction of what the ranks have, elementwise.

    Operators make sums: a product over a cut dimension gives each rank a term. They are added up
    where an operator needs the whole values.

    Args:
        op: "sum", "avg", "prod", "min" or "max".

    Raises:
        ValueError: another op.
    """

    def __init__(self, op: str = "sum") -> None:
        super().__init__(op=op)

    fits = staticmethod(Placement.is_partial)


def distribute(tensor: _C.Tensor, mesh: Mesh, placement: Placement) -> FabricTensor:
    """Cuts or copies a tensor of one device onto the ranks of a mesh.

    The result has memory and history of its own; it is a leaf that requires a gradient if
    `tensor` requires one.

    Args:
        tensor: the whole values, on any device.
        mesh: the ranks.
        placement: `Replicate()`, `Shard(dim)`, or `Partial()`, where rank 0 gets the values and the
            others zeros.

    Raises:
        ValueError: a Partial of another reduction than a sum, or a cut of a 0-d tensor.
        IndexError: no such dimension.
    """
    return _C.distribute(tensor, mesh, placement)


def from_local_shards(
    shards: Sequence[_C.Tensor], mesh: Mesh, placement: Placement
) -> FabricTensor:
    """The fabric tensor that local tensors make up; it shares their memory and history.

    Args:
        shards: one tensor a rank, on the rank's device, cut as `distribute` cuts.
        mesh: the ranks.
        placement: what the tensors are of the whole.

    Raises:
        ValueError: a wrong number of tensors, a wrong device, shape or dtype.
    """
    return _C.from_local_shards(list(shards), mesh, placement)


def reshard(tensor: FabricTensor, placement: Placement) -> FabricTensor:
    """The same tensor placed otherwise, with the collective that this needs.

    | from \\ to | Replicate | Shard(j) | Partial |
    |---|---|---|---|
    | Replicate | - | each rank keeps its window | rank 0 keeps the values, the others zeros |
    | Shard(i) | all_gather | all_to_all | each rank's window in zeros |
    | Partial | all_reduce | reduce_scatter | - |

    Raises:
        ValueError: a Partial of another reduction than a sum as the target.
        NotImplementedError: a gradient is wanted through a Partial min, max or prod.
    """
    return tensor.reshard(placement)


def gather(tensor: FabricTensor, rank: int = 0) -> _C.Tensor:
    """The whole tensor on the device of one rank, recorded for backward.

    Raises:
        IndexError: no such rank.
    """
    return _C.gather_to(tensor, rank)
