"""`torch.backends`: how the libraries behind CUDA operators compute."""

from __future__ import annotations

from vibetensor import _C

__all__ = ["cuda", "cudnn", "get_float32_matmul_precision", "set_float32_matmul_precision"]


class _Matmul:
    """`torch.backends.cuda.matmul`."""

    @property
    def allow_tf32(self) -> bool:
        """May float32 products round their inputs to TF32 (10 bits of fraction)? Off by default."""
        return _C.get_allow_tf32()

    @allow_tf32.setter
    def allow_tf32(self, allow: bool) -> None:
        _C.set_allow_tf32(bool(allow))


class _Cuda:
    """`torch.backends.cuda`."""

    def __init__(self) -> None:
        self.matmul = _Matmul()


class _Cudnn:
    """`torch.backends.cudnn`."""

    @property
    def deterministic(self) -> bool:
        """Must cuDNN give the same bits in every run? On by default, unlike in PyTorch: off, the
        backward of attention over more than 128 keys may add up in any order.
        """
        return _C.get_cudnn_deterministic()

    @deterministic.setter
    def deterministic(self, deterministic: bool) -> None:
        _C.set_cudnn_deterministic(bool(deterministic))


cuda = _Cuda()
cudnn = _Cudnn()


def set_float32_matmul_precision(precision: str) -> None:
    """How float32 products on a GPU are done: "highest" in float32, "high" or "medium" in TF32.

    Raises:
        ValueError: any other text.
    """
    if precision not in ("highest", "high", "medium"):
        raise ValueError(
            "set_float32_matmul_precision: expected 'highest', 'high' or 'medium', got "
            f"{precision!r}"
        )
    _C.set_allow_tf32(precision != "highest")


def get_float32_matmul_precision() -> str:
    """ "highest", or "high" where TF32 is allowed."""
    return "high" if _C.get_allow_tf32() else "highest"
