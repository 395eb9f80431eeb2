"""Moving and reducing data between the ranks of a mesh, from one process.

Every function takes one contiguous tensor a rank, in the order of the ranks, and works on the
process's communicator for their devices; `group=` names another. All of them are ordered after
the work queued before on each rank's current stream and before the work queued later. With
`async_op=True` they return a `Work` at once, and the second half of the order comes with its
`wait()`.

What holds for all of them:

* the tensors of a call have one dtype, and sizes that fit (each function says which): a
  `ValueError` names the rank whose own tensors do not fit together, a `FabricError` the two ranks
  that differ;
* no rank may write memory that another rank reads or writes (`ValueError`);
* a rank that does not get there in time is named by a `FabricTimeoutError`, after which the
  communicator wants a `reset()`;
* sums of 16-bit floats are taken in float32, always in the order of the ranks: every run gives the
  same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vibetensor import _C
from vibetensor._C import Communicator, Work
from vibetensor.fabric import Mesh

__all__ = [
    "Communicator",
    "Work",
    "all_gather",
    "all_reduce",
    "all_to_all",
    "barrier",
    "broadcast",
    "communicator",
    "gather",
    "new_group",
    "reduce",
    "reduce_scatter",
    "scatter",
    "sendrecv",
]

Tensors = Sequence[_C.Tensor]


def communicator(mesh: Mesh) -> Communicator:
    """The process's communicator for a mesh, made at its first use."""
    return _C.communicator(mesh)


def new_group(mesh: Mesh, ranks: Sequence[int]) -> Communicator:
    """The communicator of some ranks of a mesh, numbered anew in the order given.

    Args:
        mesh: all ranks.
        ranks: those that take part, each once.

    Raises:
        ValueError: no such rank, or one that is named twice.
    """
    return communicator(mesh).subgroup(list(ranks))


def all_reduce(
    tensors: Tensors,
    op: str = "sum",
    *,
    out: Tensors | None = None,
    group: Communicator | None = None,
    async_op: bool = False,
) -> Any:
    """Replaces each tensor by the reduction over all of them.

    Args:
        tensors: one a rank, of one size.
        op: "sum", "avg", "prod", "min" or "max".
        out: where the results go instead; of the same sizes.

    Raises:
        ValueError: an unknown op, or a tensor that is not contiguous.
        TypeError: bool tensors.
        FabricError: the tensors differ in size or dtype; the message names the two.
        FabricTimeoutError: a device did not get there in time.
    """
    comm = group or _C.communicator_of(tensors)
    return comm.all_reduce(tensors, op, out=out, async_op=async_op)


def reduce(
    tensors: Tensors,
    root: int = 0,
    op: str = "sum",
    *,
    out: _C.Tensor | None = None,
    group: Communicator | None = None,
    async_op: bool = False,
) -> Any:
    """Replaces the tensor of rank `root` by the reduction over all; the others stay as they are.

    Args:
        tensors: one a rank, of one size.
        root: the index in the list of the tensor that is replaced.
        op: "sum", "avg", "prod", "min" or "max".
        out: where the result goes instead, on the device of `root`.

    Raises:
        TypeError: bool tensors.
    """
    comm = group or _C.communicator_of(tensors)
    work = comm.reduce(tensors, root, op, out=out, async_op=async_op)
    return work if async_op else None


def reduce_scatter(
    tensors: Tensors,
    op: str = "sum",
    *,
    out: Tensors | None = None,
    group: Communicator | None = None,
    async_op: bool = False,
) -> Any:
    """The reduction over all tensors, cut into parts: rank r gets the r-th.

    Args:
        tensors: one a rank, of one shape `[n * k, ...]` for n ranks.
        op: "sum", "avg", "prod", "min" or "max".
        out: one tensor a rank with `1/n` of the elements; may be the rank's own part of its input.
            Otherwise new tensors `[k, ...]` are made.

    Returns:
        The outputs, or a Work whose `result()` they are.

    Raises:
        TypeError: bool tensors.
    """
    comm = group or _C.communicator_of(tensors)
    return comm.reduce_scatter(tensors, op, out=out, async_op=async_op)


def all_gather(
    tensors: Tensors,
    *,
    out: Tensors | None = None,
    group: Communicator | None = None,
    async_op: bool = False,
) -> Any:
    """Every rank gets the tensors of all ranks, one behind another.

    Args:
        tensors: one a rank, of one shape `[k, ...]` and any dtype.
        out: one tensor a rank with n times the elements, for n ranks; its own input may be the
            rank's part of it. Otherwise new tensors `[n * k, ...]` are made.

    Returns:
        The outputs, or a Work whose `result()` they are.
    """
    comm = group or _C.communicator_of(tensors)
    return comm.all_gather(tensors, out=out, async_op=async_op)


def broadcast(
    tensors: Tensors,
    root: int = 0,
    *,
    group: Communicator | None = None,
    async_op: bool = False,
) -> Any:
    """Copies the tensor of rank `root` into all others.

    Args:
        tensors: one a rank, of one size and any dtype.
        root: the index in the list of the tensor that is sent.

    Raises:
        ValueError: no such root, or a tensor that is not contiguous.
        FabricError: the tensors differ in size or dtype.
    """
    comm = group or _C.communicator_of(tensors)
    return comm.broadcast(tensors, root, async_op=async_op)


def all_to_all(
    tensors: Tensors,
    *,
    out: Tensors | None = None,
    group: Communicator | None = None,
    async_op: bool = False,
) -> Any:
    """Rank r gets the r-th part of every rank's tensor, one behind another.

    Args:
        tensors: one a rank, of one size `n * k` for n ranks and any dtype.
        out: one tensor a rank of the same size, never an input. Otherwise new ones are made.

    Returns:
        The outputs, or a Work whose `result()` they are.
    """
    comm = group or _C.communicator_of(tensors)
    return comm.all_to_all(tensors, out=out, async_op=async_op)


def gather(
    tensors: Tensors,
    root: int = 0,
    *,
    out: _C.Tensor | None = None,
    group: Communicator | None = None,
    async_op: bool = False,
) -> Any:
    """Rank `root` gets the tensors of all ranks, one behind another.

    Args:
        tensors: one a rank, of one shape `[k, ...]` and any dtype.
        root: the rank that gets them.
        out: a tensor of n times the elements on its device; its own input may be its part of it.
            Otherwise a new tensor `[n * k, ...]` is made.

    Returns:
        The tensor on `root`, or a Work whose `result()[root]` it is.
    """
    comm = group or _C.communicator_of(tensors)
    made = comm.gather(tensors, root, out=out, async_op=async_op)
    return made if async_op else made[root]


def scatter(
    tensor: _C.Tensor,
    root: int = 0,
    *,
    group: Communicator,
    out: Tensors | None = None,
    async_op: bool = False,
) -> Any:
    """Rank r gets the r-th part of the tensor of rank `root`.

    Args:
        tensor: `[n * k, ...]` on the device of `root`, of any dtype.
        root: the rank that it is on.
        group: the ranks.
        out: one tensor a rank with `1/n` of the elements; that of `root` may be its own part of
            the input. Otherwise new tensors `[k, ...]` are made.

    Returns:
        The outputs, or a Work whose `result()` they are.
    """
    return group.scatter(tensor, root, out=out, async_op=async_op)


def sendrecv(
    tensors: Sequence[_C.Tensor | None],
    to: Sequence[int | None],
    *,
    out: Sequence[_C.Tensor | None] | None = None,
    group: Communicator | None = None,
    async_op: bool = False,
) -> Any:
    """Rank r sends its tensor to rank `to[r]`; all at once, as a ring shift does.

    Args:
        tensors: one a rank that sends, of one size and any dtype; None for the others, which
            needs `group`.
        to: the receiver of each, None where a rank sends nothing; no rank receives twice.
        out: the tensors received into, never an input. Otherwise new ones are made.

    Returns:
        The outputs, None for ranks that receive nothing, or a Work whose `result()` they are.

    Raises:
        ValueError: two ranks send to the same one.
    """
    comm = group or _C.communicator_of(tensors)
    return comm.sendrecv(tensors, to, out=out, async_op=async_op)


def barrier(
    mesh: Mesh | None = None, *, group: Communicator | None = None, async_op: bool = False
) -> Any:
    """Work queued later on any device of the mesh waits for what is queued on all of them now.

    Args:
        mesh: the ranks, where no group is named.

    Raises:
        ValueError: neither a mesh nor a group.
    """
    if group is None:
        if mesh is None:
            raise ValueError("barrier: name a mesh or a group")
        group = communicator(mesh)
    return group.barrier(async_op=async_op)
