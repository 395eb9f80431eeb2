"""Precisions of a training run: what parameters are cast to, and the loss scale of float16."""

from __future__ import annotations

from typing import Any

from vibetensor import _C

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
    updates without that.
    """

    def __init__(self, value: float = 2.0**16, interval: int = 2000) -> None:
        self.value = value
        self.interval = interval
        self._good = 0

    def update(self, overflow: bool) -> None:
        """Adapts the scale to what the last step found."""
        if overflow:
            self.value = max(self.value / 2, 2.0**-14)
            self._good = 0
            return
        self._good += 1
        if self._good == self.interval:
            self.value = min(self.value * 2, 2.0**24)
            self._good = 0

    def state_dict(self) -> dict[str, Any]:
        """The scale, and how long it has held."""
        return {"value": self.value, "good": self._good}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self.value, self._good = float(state["value"]), int(state["good"])
