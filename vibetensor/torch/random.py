"""`torch.random`: one seed for every device, and the state of the stream on `cpu:0`."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from vibetensor import _C, cuda, replay

__all__ = ["fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]


def manual_seed(seed: int) -> None:
    """Starts the random numbers of every device again from `seed`; equal seeds give equal bits on
    each of them.

    Raises:
        RuntimeError: a graph is being captured.
    """
    replay.refuse_seeds("manual_seed")
    _C.manual_seed(seed)


def seed() -> int:
    """Starts the random numbers of every device again from the system's entropy; that seed."""
    found = secrets.randbits(63)
    manual_seed(found)
    return found


def initial_seed() -> int:
    """The seed that the numbers of `cpu:0` started from."""
    return _C.initial_seed()


def get_rng_state() -> _C.Tensor:
    """The state of `cpu:0`: uint8."""
    return _C.get_rng_state(_C.device("cpu:0"))


def set_rng_state(new_state: _C.Tensor) -> None:
    """Continues from a state that `get_rng_state` gave."""
    _C.set_rng_state(_C.device("cpu:0"), new_state)


@contextmanager
def fork_rng(
    devices: Iterable[_C.device | int | str] | None = None,
    enabled: bool = True,
    device_type: str = "cuda",
) -> Iterator[None]:
    """What is drawn or seeded in a block leaves the numbers behind it as they were.

    Args:
        devices: the GPUs whose state is put back beside that of `cpu:0`; None means all.
        enabled: False does nothing.
        device_type: "cuda", the only kind beside the CPU.

    Raises:
        ValueError: another kind of device.
    """
    if device_type != "cuda":
        raise ValueError(f"fork_rng: expected device_type 'cuda', got {device_type!r}")
    if not enabled:
        yield
        return
    gpus = list(range(cuda.device_count()) if devices is None else devices)
    host, states = get_rng_state(), [cuda.get_rng_state(gpu) for gpu in gpus]
    try:
        yield
    finally:
        set_rng_state(host)
        for gpu, state in zip(gpus, states, strict=True):
            cuda.set_rng_state(state, gpu)
