"""Moving and reducing data between the ranks of a mesh, from one process."""

from __future__ import annotations

from collections.abc import Sequence

from vibetensor import _C
from vibetensor._C import Communicator
from vibetensor.fabric import Mesh

__all__ = ["Communicator", "all_reduce", "barrier", "broadcast", "communicator"]

_known: dict[Mesh, Communicator] = {}


def communicator(mesh: Mesh) -> Communicator:
    """The process's communicator for a mesh, made at its first use."""
    found = _known.get(mesh)
    if found is None:
        found = _known.setdefault(mesh, Communicator(mesh))
    return found


def all_reduce(tensors: Sequence[_C.Tensor], op: str = "sum") -> None:
    """Replaces each tensor by the reduction over all of them, in place.

    Sums of 16-bit floats are taken in float32, always in the order of the list: every rank gets the
    same bits, in every run.

    Args:
        tensors: one contiguous tensor a rank, of one size and dtype, each on its rank's device.
        op: "sum", "avg", "prod", "min" or "max".

    Raises:
        ValueError: an unknown op, or a tensor that is not contiguous.
        TypeError: bool tensors.
        FabricError: the tensors differ in size or dtype; the message names the two.
        FabricTimeoutError: a device did not get there in time.
    """
    _of(tensors).all_reduce(tensors, op)


def broadcast(tensors: Sequence[_C.Tensor], root: int = 0) -> None:
    """Copies the tensor of rank `root` into all others.

    Args:
        tensors: one contiguous tensor a rank, of one size and dtype.
        root: the index in the list of the tensor that is sent.

    Raises:
        ValueError: no such root, or a tensor that is not contiguous.
        FabricError: the tensors differ in size or dtype.
    """
    _of(tensors).broadcast(tensors, root)


def barrier(mesh: Mesh) -> None:
    """Work queued later on any device of the mesh waits for what is queued on all of them now."""
    communicator(mesh).barrier()


def _of(tensors: Sequence[_C.Tensor]) -> Communicator:
    return communicator(Mesh([tensor.device for tensor in tensors]))
