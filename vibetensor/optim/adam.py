"""Adam and AdamW, one fused call for a whole arena."""

from __future__ import annotations

from typing import Any

from vibetensor import _C
from vibetensor.optim.block import Piece, Scaling
from vibetensor.optim.optimizer import Optimizer


class AdamW(Optimizer):
    """Adam with decoupled weight decay, as torch.optim.AdamW.

    `foreach`, `fused` and `capturable` are what PyTorch's callers say; every update here is fused
    and may be captured, whatever they are.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        foreach: bool | None = None,
        capturable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not group["eps"] >= 0:
            raise ValueError(f"Invalid epsilon value: {group['eps']}")
        for i, beta in enumerate(group["betas"]):
            if not 0 <= beta < 1:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}")

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def _update(self, group: dict[str, Any], piece: Piece, step: int, scaling: Scaling) -> None:
        self._adam(group, piece, piece.grad, group["weight_decay"], step, scaling)

    def _refresh(self, graph: _C.Graph, number: int, group: dict[str, Any], step: int) -> None:
        self._refresh_adam(graph, number, group, group["weight_decay"], step)

    def _refresh_adam(
        self,
        graph: _C.Graph,
        number: int,
        group: dict[str, Any],
        weight_decay: float,
        step: int,
    ) -> None:
        beta1, beta2 = group["betas"]
        graph.set_adamw(number, group["lr"], beta1, beta2, group["eps"], weight_decay, step)

    def _adam(
        self,
        group: dict[str, Any],
        piece: Piece,
        grad: _C.Tensor,
        weight_decay: float,
        step: int,
        scaling: Scaling,
    ) -> None:
        beta1, beta2 = group["betas"]
        _C.ops.adamw_(
            piece.param,
            grad,
            piece.state["exp_avg"],
            piece.state["exp_avg_sq"],
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            weight_decay=weight_decay,
            **piece.fused(step, scaling),
        )


class Adam(AdamW):
    """Adam, as torch.optim.Adam: weight decay is added to the gradient."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        capturable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def _update(self, group: dict[str, Any], piece: Piece, step: int, scaling: Scaling) -> None:
        decay = group["weight_decay"]
        if not decay:
            self._adam(group, piece, piece.grad, 0.0, step, scaling)
            return
        # In the master's type: 16 bits hold neither an unscaled gradient nor its sum.
        exact = piece.param if piece.master is None else piece.master
        grad = piece.grad.to(exact.dtype)
        if scaling.factor is not None:
            grad = grad * scaling.factor.to(exact.dtype)
        grad = grad.add(exact, alpha=decay)
        whole = piece._replace(param=exact, master=None)
        self._adam(group, whole, grad, 0.0, step, scaling._replace(factor=None))
        if piece.master is not None:
            piece.param.copy_(piece.master)

    def _refresh(self, graph: _C.Graph, number: int, group: dict[str, Any], step: int) -> None:
        self._refresh_adam(graph, number, group, 0.0, step)

    def _fixed_options(self, group: dict[str, Any]) -> Any:
        return group["weight_decay"]
