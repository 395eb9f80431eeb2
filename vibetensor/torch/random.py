"""`torch.random`: one seed for every device, and the state of the stream on `cpu:0`."""

from __future__ import annotations

from vibetensor import _C

__all__ = ["get_rng_state", "initial_seed", "manual_seed", "set_rng_state"]


def manual_seed(seed: int) -> None:
    """Starts the random numbers of every device again from `seed`; equal seeds give equal bits on
    each of them.
    """
    _C.manual_seed(seed)


def initial_seed() -> int:
    """The seed that the numbers of `cpu:0` started from."""
    return _C.initial_seed()


def get_rng_state() -> _C.Tensor:
    """The state of `cpu:0`: uint8."""
    return _C.get_rng_state(_C.device("cpu:0"))


def set_rng_state(new_state: _C.Tensor) -> None:
    """Continues from a state that `get_rng_state` gave."""
    _C.set_rng_state(_C.device("cpu:0"), new_state)
