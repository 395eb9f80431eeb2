"""Generator: the random order of data, from a seed and nothing else.

The numbers come from NumPy's Philox; without a generator of their own, samplers take a seed from
the random state of `cpu:0`, which `manual_seed` sets and a checkpoint keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vibetensor import _C


class Generator:
    """A stream of random numbers for samplers and `random_split`."""

    def __init__(self, device: Any = "cpu") -> None:
        if not str(device).startswith("cpu"):
            raise ValueError(f"Generator: only 'cpu' orders data, got '{device}'")
        self.manual_seed(0)

    def manual_seed(self, seed: int) -> Generator:
        """Starts again from a seed; returns self."""
        self._seed = int(seed)
        self._numbers = np.random.Generator(np.random.Philox(key=self._seed % 2**128))
        return self

    def seed(self) -> int:
        """Starts again from a seed out of the system's entropy, and returns it."""
        self.manual_seed(int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) >> 1)
        return self._seed

    def initial_seed(self) -> int:
        """The seed that the numbers started from."""
        return self._seed

    def get_state(self) -> _C.Tensor:
        """All that the next numbers depend on: uint8."""
        state = self._numbers.bit_generator.state
        words = [
            *state["state"]["counter"].tolist(), *state["state"]["key"].tolist(),
            *state["buffer"].tolist(), state["buffer_pos"], state["has_uint32"], state["uinteger"],
        ]  # fmt: skip
        return _C.from_numpy(np.array(words, dtype=np.uint64).view(np.uint8))

    def set_state(self, new_state: _C.Tensor) -> Generator:
        """Continues from a state that `get_state` gave; returns self."""
        words = np.array(new_state.numpy()).view(np.uint64)
        if words.size != 13:
            raise ValueError(f"set_state: expected 104 bytes of get_state, got {words.nbytes}")
        self._numbers.bit_generator.state = {
            "bit_generator": "Philox",
            "state": {"counter": words[:4], "key": words[4:6]},
            "buffer": words[6:10],
            "buffer_pos": int(words[10]),
            "has_uint32": int(words[11]),
            "uinteger": int(words[12]),
        }
        return self

    def permutation(self, n: int) -> list[int]:
        """0 .. n-1 in random order."""
        order: list[int] = self._numbers.permutation(n).tolist()
        return order

    def integers(self, n: int, count: int) -> list[int]:
        """`count` random numbers below n."""
        drawn: list[int] = self._numbers.integers(n, size=count).tolist()
        return drawn

    def choice(self, weights: Sequence[float], count: int, replacement: bool) -> list[int]:
        """`count` indices drawn with the given weights."""
        share = np.asarray(weights, dtype=np.float64)
        drawn: list[int] = self._numbers.choice(
            len(share), count, replace=replacement, p=share / share.sum()
        ).tolist()
        return drawn


def default_generator() -> Generator:
    """A generator with a seed drawn from the random state of `cpu:0`."""
    return Generator().manual_seed(int(_C.ops.randint(0, 2**62, (1,)).item()))
