"""Whether results must have the same bits in every run."""

from __future__ import annotations

from vibetensor import _C

__all__ = ["are_deterministic_algorithms_enabled", "use_deterministic_algorithms"]


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Asks for the same bits in every run, or lets sums be taken in any order where that is faster.

    On by default, unlike in PyTorch. Every operator has an algorithm that gives the same bits, so
    nothing is refused. Off, cuDNN may add up in any order: the gradients of attention of 16-bit
    floats over more than 128 keys, where no kernel of ours takes them (on Hopper one does from 256
    tokens on, for 64 or 128 features), and of convolutions. This is the switch
    `torch.backends.cudnn.deterministic`. A captured step keeps what counted when it was captured.

    Args:
        mode: the same bits?
        warn_only: of no effect, as there is nothing to warn of.
    """
    del warn_only
    _C.set_cudnn_deterministic(bool(mode))


def are_deterministic_algorithms_enabled() -> bool:
    """Must results have the same bits in every run? See `use_deterministic_algorithms`."""
    return _C.get_cudnn_deterministic()
