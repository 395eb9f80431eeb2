"""One optimizer a rank, all with the state and options of the first."""

from __future__ import annotations

from vibetensor import _C
from vibetensor.optim.optimizer import Optimizer
from vibetensor.parallel.replicas import DataParallel


def optimizers_by_rank(
    model: DataParallel, optimizer: Optimizer, dtype: _C.dtype | None
) -> list[Optimizer]:
    """The optimizer, and its like for every other replica, each on its replica's flat memory.

    Args:
        model: whose parameters are laid out anew where `dtype` or several groups ask for it.
        optimizer: over the parameters of the first replica.
        dtype: the 16-bit type of parameters, whose float32 masters start from the values that the
            parameters have now; None leaves them as they are.

    Raises:
        ValueError: the optimizer's parameters are not just the trainable ones of the model.
    """
    first = model.trainable(0)
    number_of = {id(param): number for number, param in enumerate(first)}
    groups: list[list[int]] = []
    for group in optimizer.param_groups:
        params = [param for param in group["params"] if param.requires_grad]
        if any(id(param) not in number_of for param in params):
            raise ValueError(
                "Trainer: the optimizer holds parameters that are not in the model; give it "
                "model.parameters() of the DataParallel model"
            )
        groups.append([number_of[id(param)] for param in params])
    missing = set(range(len(first))) - {number for group in groups for number in group}
    if missing:
        names = ", ".join(model.names[number] for number in sorted(missing)[:3])
        raise ValueError(
            f"Trainer: {len(missing)} trainable parameters are in no group of the optimizer, as "
            f"{names}; set requires_grad=False on what should stay as it is"
        )
    # Rounded once, at the end: the master weights start from the values before the cast.
    exact = [param.detach().clone() for param in first] if dtype is not None else None
    if dtype is not None or len(groups) > 1:
        model.lay_out(groups, dtype)
    optimizers = [optimizer]
    for rank in range(1, len(model.replicas)):
        copies = dict(zip(map(id, model.module.parameters()),
                          model.replicas[rank].parameters(), strict=True))  # fmt: skip
        optimizers.append(optimizer.for_copies(copies))
    for each, arenas, rank in zip(optimizers, model.arenas, range(len(optimizers)), strict=True):
        each.use_arenas(arenas)
        if exact is not None:
            params = model.trainable(rank)
            each.set_masters(dict(zip(map(id, params), exact, strict=True)))
    return optimizers
