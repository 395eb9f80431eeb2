"""Mixed precision of a training script: `torch.amp`."""

from vibetensor.amp.custom import custom_bwd, custom_fwd
from vibetensor.amp.grad_scaler import GradScaler
from vibetensor.amp.region import (
    autocast,
    get_autocast_dtype,
    is_autocast_available,
    is_autocast_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
)

__all__ = [
    "GradScaler",
    "autocast",
    "custom_bwd",
    "custom_fwd",
    "get_autocast_dtype",
    "is_autocast_available",
    "is_autocast_enabled",
    "set_autocast_dtype",
    "set_autocast_enabled",
]
