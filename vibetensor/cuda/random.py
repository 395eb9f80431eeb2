"""`torch.cuda.random`: seeds and states of the random numbers of each GPU."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from vibetensor import _C, replay
from vibetensor.cuda.devices import DeviceLike, device_count, is_available, place

__all__ = [
    "get_rng_state",
    "get_rng_state_all",
    "initial_seed",
    "manual_seed",
    "manual_seed_all",
    "seed",
    "seed_all",
    "set_rng_state",
    "set_rng_state_all",
]


def manual_seed(seed: int) -> None:
    """Seeds the numbers of the current GPU; nothing happens without one, as in torch.

    Raises:
        RuntimeError: a graph is being captured. So with all that set numbers.
    """
    replay.refuse_seeds("cuda.manual_seed")
    if is_available():
        _C.manual_seed(seed, place(None))


def manual_seed_all(seed: int) -> None:
    """Seeds the numbers of every GPU; nothing happens without one, as in torch."""
    replay.refuse_seeds("cuda.manual_seed_all")
    for index in range(device_count()):
        _C.manual_seed(seed, place(index))


def seed() -> None:
    """Seeds the numbers of the current GPU from the system's entropy."""
    manual_seed(secrets.randbits(63))


def seed_all() -> None:
    """Seeds the numbers of every GPU with one number from the system's entropy."""
    manual_seed_all(secrets.randbits(63))


def initial_seed() -> int:
    """The seed that the numbers of the current GPU started from."""
    return _C.initial_seed(place(None))


def get_rng_state(device: DeviceLike = "cuda") -> _C.Tensor:
    """The state of a GPU's numbers: uint8[16], on the CPU."""
    return _C.get_rng_state(place(device))


def get_rng_state_all() -> list[_C.Tensor]:
    """The state of each GPU, in order."""
    return [get_rng_state(index) for index in range(device_count())]


def set_rng_state(new_state: _C.Tensor, device: DeviceLike = "cuda") -> None:
    """Continues from a state that `get_rng_state` gave.

    Raises:
        RuntimeError: it is not such a state, or there is no such GPU.
    """
    replay.refuse_seeds("cuda.set_rng_state")
    _C.set_rng_state(place(device), new_state)


def set_rng_state_all(new_states: Iterable[_C.Tensor]) -> None:
    """Continues on each GPU, in order, from what `get_rng_state_all` gave."""
    for index, state in enumerate(new_states):
        set_rng_state(state, index)
