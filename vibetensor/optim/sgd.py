"""SGD: stochastic gradient descent with momentum, one fused call for a whole arena."""

from __future__ import annotations

from typing import Any

from vibetensor import _C
from vibetensor.optim.block import Piece, Scaling
from vibetensor.optim.optimizer import Optimizer


class SGD(Optimizer):
    """As torch.optim.SGD. Updates are always fused, whatever `foreach` and `fused` are.

    Raises:
        ValueError: an option out of range, or nesterov without momentum or with dampening.
    """

    _counts_steps = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not group["momentum"] >= 0:
            raise ValueError(f"Invalid momentum value: {group['momentum']}")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def _update(self, group: dict[str, Any], piece: Piece, step: int, scaling: Scaling) -> None:
        _C.ops.sgd_(
            piece.param,
            piece.grad,
            piece.state.get("momentum_buffer"),
            lr=group["lr"],
            momentum=group["momentum"],
            dampening=group["dampening"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
            **piece.fused(step, scaling),
        )

    def _refresh(self, graph: _C.Graph, number: int, group: dict[str, Any], step: int) -> None:
        graph.set_sgd(
            number,
            group["lr"],
            group["momentum"],
            group["dampening"],
            group["weight_decay"],
            group["nesterov"],
            step,
        )

    def _fixed_options(self, group: dict[str, Any]) -> Any:
        return group["momentum"] != 0
