"""Precisions of a training run: what parameters are cast to, and the loss scale of float16."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vibetensor import _C

Tensor = _C.Tensor

DTYPES: dict[str, _C.dtype | None] = {
    "fp32": None,
    "bf16": _C.bfloat16,
    "fp16": _C.float16,
}


def dtype_of(precision: str) -> _C.dtype | None:
    """The type of parameters and activations; None leaves the model as it is.

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in DTYPES:
        raise ValueError(f"precision: expected one of {', '.join(DTYPES)}; got {precision!r}")
    return DTYPES[precision]


class LossScale:
    """A power of two that keeps float16 gradients above underflow.

    It is halved, and the update skipped, when a gradient overflows, and doubled after `interval`
    updates without that. It lives on the devices, one copy on each, so that a step neither waits
    for the gradients nor decides anything on the host. The copies stay equal: they follow the norms
    of gradients that are the same on all ranks.

    Args:
        devices: of the ranks.
        value: the first scale.
        interval: steps without an overflow before the scale grows.
    """

    def __init__(
        self, devices: Iterable[_C.device], value: float = 2.0**16, interval: int = 2000
    ) -> None:
        self.interval = interval
        self._states = {
            device: _C.ops.zeros(2, dtype=_C.float32, device=device)
            for device in dict.fromkeys(devices)
        }
        self.load_state_dict({"value": value, "good": 0})

    def scale(self, loss: Tensor) -> Tensor:
        """The loss times the scale."""
        state: Tensor = self._states[loss.device]
        return loss * state[0]

    def update(self, norm: Tensor, clip: float | None) -> tuple[Tensor, Tensor, Tensor]:
        """Adapts the scale of the norm's device to the norm of the gradients of a scaled loss.

        Returns three 0-d float32: the factor on the gradients that undoes the scale, and clips them
        to norm `clip`; 1 where they overflowed, else 0; and their norm without the scale.
        """
        found = _C.ops.loss_scale_(
            self._states[norm.device],
            norm,
            clip=clip,
            lowest=2.0**-14,
            highest=2.0**24,
            interval=self.interval,
        )
        factor, overflow, plain = found.unbind(0)
        return factor, overflow, plain

    def state_dict(self) -> dict[str, Any]:
        """The scale, and how long it has held. Waits for the device."""
        value, good = next(iter(self._states.values())).tolist()
        return {"value": value, "good": int(good)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        numbers = _C.tensor([float(state["value"]), float(state["good"])])
        for own in self._states.values():
            own.copy_(numbers)
