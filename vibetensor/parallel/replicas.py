"""DataParallel: a replica of a module for each rank of a mesh, on flat parameters and gradients."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vibetensor import _C, fabric
from vibetensor.autograd import no_grad
from vibetensor.nn import Module
from vibetensor.nn.parameter import Parameter
from vibetensor.optim.arena import Arena, kind_of
from vibetensor.parallel import batch as batches

Tensor = _C.Tensor

BUCKET_BYTES = 32 << 20
FIRST_BUCKET_BYTES = 1 << 20
REDUCE_BLOCKS = 0


class DataParallel:
    """Replicas of a module, one a rank, whose gradients are summed while backward still runs.

    The parameters of each replica become views of flat tensors, and so do their gradients. Replica
    0 is the module itself, moved to the first device; its parameters are the ones to give to an
    optimizer.

    Args:
        module: the model; or one model for each rank, which then take the values of the first.
        mesh: the ranks, by default `fabric.mesh()`: every GPU, or else every CPU device.
        bucket_bytes: how much gradient is reduced as one.
        first_bucket_bytes: the same for the first bucket, so that reducing starts early.
        reduce_blocks: how many blocks of a GPU a reduction may take from backward, which runs at
            the same time; 0 for as few as can be while it runs, and for the last bucket, behind it,
            as many as pay; 128 for as many as pay always.

    Raises:
        TypeError: the mesh is no Mesh.
        ValueError: models of different ranks have different parameters, or their number is not that
            of the ranks.
    """

    def __init__(
        self,
        module: Module | Sequence[Module],
        mesh: fabric.Mesh | None = None,
        *,
        bucket_bytes: int = BUCKET_BYTES,
        first_bucket_bytes: int = FIRST_BUCKET_BYTES,
        reduce_blocks: int = REDUCE_BLOCKS,
    ) -> None:
        if mesh is not None and not isinstance(mesh, fabric.Mesh):
            raise TypeError(
                f"DataParallel: mesh must be a Mesh, as fabric.mesh({mesh!r}) makes one, not a "
                f"{type(mesh).__name__}"
            )
        self.mesh = fabric.mesh() if mesh is None else mesh
        self.devices: list[_C.device] = list(self.mesh.devices)
        self._reducing = {
            "bucket_bytes": bucket_bytes,
            "first_bucket_bytes": first_bucket_bytes,
            "max_blocks": reduce_blocks,
        }
        self.replicas = _replicas(module, self.devices)
        self.module = self.replicas[0]
        named = [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]
        if not named:
            raise ValueError("DataParallel: the model has no parameter that requires a gradient")
        self.names = [name for name, _ in named]
        self.lay_out([list(range(len(named)))])
        self.share_values()

    # -- flat memory -------------------------------------------------------------------------------

    def trainable(self, rank: int) -> list[Parameter]:
        """The parameters of a replica that require a gradient, in order of registration."""
        return [p for p in self.replicas[rank].parameters() if p.requires_grad]

    def lay_out(self, groups: Sequence[Sequence[int]], dtype: _C.dtype | None = None) -> None:
        """Places parameters and gradients in flat memory anew: for each group and dtype one range.

        Args:
            groups: numbers of trainable parameters, in order of registration, that are stepped
                alike.
            dtype: cast floating-point parameters and buffers to this first.
        """
        self._reducer: Any = None  # the old one lets go of the parameters first
        if dtype is not None:
            for replica in self.replicas:
                replica.to(dtype)
        params = [self.trainable(rank) for rank in range(len(self.replicas))]
        kinds: dict[tuple[int, Any], list[int]] = {}
        for index, group in enumerate(groups):
            for number in sorted(group):
                kinds.setdefault((index, kind_of(params[0][number])), []).append(number)
        self.arenas: list[list[Arena]] = [[] for _ in self.replicas]
        for numbers in kinds.values():
            flats: list[Tensor] = []

            def new_grad(
                numel: int, dtype: _C.dtype, _: _C.device, flats: list[Tensor] = flats
            ) -> Tensor:
                if not flats:
                    flats.extend(fabric.symmetric_zeros(self.mesh, [numel], dtype)[::-1])
                return flats.pop()

            for rank, arenas in enumerate(self.arenas):
                arenas.append(Arena([params[rank][number] for number in numbers], new_grad))
        self._reducer = _C.GradientReducer(
            self.devices,
            [
                [
                    (arena.grad, arena.params, arena.offsets, numbers)
                    for arena, numbers in zip(arenas, kinds.values(), strict=True)
                ]
                for arenas in self.arenas
            ],
            **self._reducing,
        )

    @property
    def buckets(self) -> list[list[str]]:
        """The names of the parameters of each bucket, in the order in which they are reduced."""
        return [[self.names[number] for number in numbers] for *_, numbers in self._reducer.buckets]

    @property
    def early_buckets(self) -> int:
        """How many buckets of the last backward were under way on all ranks before it ended."""
        return int(self._reducer.early_buckets)

    def share_values(self) -> None:
        """Gives every replica the parameters and buffers of replica 0."""
        first = self.replicas[0]
        with no_grad():
            for replica, arenas in zip(self.replicas[1:], self.arenas[1:], strict=True):
                for source, target in zip(self.arenas[0], arenas, strict=True):
                    target.flat.copy_(source.flat)
                params = zip(first.parameters(), replica.parameters(), strict=True)
                frozen = [(mine, theirs) for mine, theirs in params if not mine.requires_grad]
                buffers = zip(first.buffers(), replica.buffers(), strict=True)
                for mine, theirs in (*frozen, *buffers):
                    theirs.copy_(mine)

    # -- one pass ----------------------------------------------------------------------------------

    def __call__(self, *inputs: Any) -> Tensor:
        """Splits the inputs over the ranks, runs all replicas, and joins their outputs.

        Args:
            inputs: tensors, or structures of them, with samples along the first dimension. Where
                there are fewer samples than ranks, the first ranks run alone.

        Returns:
            The outputs, one tensor a replica, joined along dimension 0 on the first device.
        """
        ranks = min(len(self.replicas), max(batches.size_of(inputs), 1))
        outputs = [
            self.replicas[rank](*batches.to_device(piece, self.devices[rank]))
            for rank, (piece, _) in enumerate(batches.split(inputs, ranks))
        ]
        return _C.ops.cat([output.to(self.devices[0]) for output in outputs])

    def backward(
        self,
        losses: Sequence[Tensor],
        weights: Sequence[float] | None = None,
        *,
        reduce: bool = True,
    ) -> None:
        """Adds the gradient of the weighted sum of the losses to `grad` of every parameter.

        The passes of all replicas run at the same time, without the GIL; each bucket of gradients
        is summed over the replicas as soon as its last gradient is there. A parameter that no
        replica used keeps no gradient; one that only some used counts as zero on the others.

        Args:
            losses: a 0-d tensor for each rank, on its device.
            weights: a factor for each; 1 / ranks if None.
            reduce: False only adds to the gradients of each replica, for accumulation over several
                batches of which the last one reduces.

        Raises:
            ValueError: not one loss and one weight for each rank.
            RuntimeError: a loss does not require a gradient, is on another device or no scalar.
        """
        if weights is None:
            weights = [1.0 / len(losses)] * len(losses)
        self._reducer.backward(list(losses), list(weights), reduce)

    def zero_grad(self) -> None:
        """Drops the gradients of all replicas."""
        self._reducer.clear()

    # -- what a module has -------------------------------------------------------------------------

    def parameters(self) -> Iterator[Parameter]:
        """The parameters of replica 0."""
        return self.module.parameters()

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters of replica 0 with their names."""
        return self.module.named_parameters()

    def state_dict(self) -> dict[str, Any]:
        """The state of replica 0, under the names that it has as a plain module."""
        return self.module.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Copies a module's state into every replica.

        Raises:
            RuntimeError: names or shapes that do not match.
        """
        for replica in self.replicas:
            replica.load_state_dict(state_dict)

    def train(self, mode: bool = True) -> DataParallel:
        """Sets training mode on every replica."""
        for replica in self.replicas:
            replica.train(mode)
        return self

    def eval(self) -> DataParallel:
        """`train(False)`."""
        return self.train(False)

    def __repr__(self) -> str:
        return f"DataParallel({len(self.replicas)} x {type(self.module).__name__}, {self.mesh})"


def _replicas(module: Module | Sequence[Module], devices: list[_C.device]) -> list[Module]:
    if isinstance(module, Module):
        module.to(devices[0])
        copies = [copy.deepcopy(module).to(device) for device in devices[1:]]
        return [module, *copies]
    given = list(module)
    if len(given) != len(devices):
        raise ValueError(
            f"DataParallel: got {len(given)} models for {len(devices)} ranks; give one for each, "
            "or one to copy"
        )
    first = _signature(given[0])
    for rank, other in enumerate(given[1:], 1):
        mine = _signature(other)
        if mine != first:
            raise ValueError(
                f"DataParallel: {_first_difference(first, mine, rank)}; replicas must have the "
                "same parameters in the same order"
            )
    return [each.to(device) for each, device in zip(given, devices, strict=True)]


def _signature(module: Module) -> list[str]:
    return [
        f"'{name}' {list(param.shape)} {param.dtype}{'' if param.requires_grad else ' (frozen)'}"
        for name, param in module.named_parameters()
    ]


def _first_difference(first: list[str], other: list[str], rank: int) -> str:
    for i, (mine, theirs) in enumerate(zip(first, other, strict=False)):
        if mine != theirs:
            return f"parameter {i} is {mine} on rank 0 and {theirs} on rank {rank}"
    return f"rank 0 has {len(first)} parameters, rank {rank} has {len(other)}"
