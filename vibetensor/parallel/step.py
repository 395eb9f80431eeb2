"""What one training step measured."""

from __future__ import annotations

from collections.abc import Sequence

from vibetensor import _C


class StepMetrics:
    """Loss and gradient norm of a step. They stay on the devices until they are read.

    Attributes:
        step: the number of the step, from 1.
        lr: the rate of the first parameter group.
        samples: how many samples the batch had.
    """

    def __init__(
        self,
        step: int,
        losses: Sequence[_C.Tensor],
        weights: Sequence[float],
        norm: _C.Tensor,
        *,
        lr: float,
        samples: int,
        overflow: _C.Tensor | None = None,
    ) -> None:
        self.step = step
        self.lr = lr
        self.samples = samples
        self._losses = list(losses)
        self._weights = list(weights)
        self._norm = norm
        self._overflow = overflow
        self._loss: float | None = None
        self._grad_norm: float | None = None
        self._skipped: bool | None = None

    @property
    def loss(self) -> float:
        """The mean over the samples of the batch, before the update. Waits for the devices."""
        if self._loss is None:
            parts = zip(self._losses, self._weights, strict=True)
            self._loss = sum(float(loss.item()) * weight for loss, weight in parts)
            self._losses.clear()
        return self._loss

    @property
    def grad_norm(self) -> float:
        """The norm of all gradients together, before clipping. Waits for the devices."""
        if self._grad_norm is None:
            self._grad_norm = float(self._norm.item())
        return self._grad_norm

    @property
    def skipped(self) -> bool:
        """Whether float16 gradients overflowed and nothing was updated. Waits for the devices."""
        if self._skipped is None:
            self._skipped = self._overflow is not None and bool(self._overflow.item())
        return self._skipped

    def __repr__(self) -> str:
        return (
            f"StepMetrics(step={self.step}, loss={self.loss:.6g}, grad_norm={self.grad_norm:.4g}, "
            f"lr={self.lr:.3g}, samples={self.samples})"
        )
