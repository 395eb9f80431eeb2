"""`torch.finfo` and `torch.iinfo`: the limits of the number types."""

from __future__ import annotations

from vibetensor import _C

# Bits of the exponent and of the mantissa.
_FLOATS = {"float16": (5, 10), "bfloat16": (8, 7), "float32": (8, 23), "float64": (11, 52)}
_INTEGERS = {"uint8": (8, False), "int8": (8, True), "int32": (32, True), "int64": (64, True)}


def _name(dtype: _C.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class finfo:
    """Limits of a floating-point type: bits, eps, max, min, tiny (the smallest normal number).

    Raises:
        TypeError: the type is none of float16, bfloat16, float32, float64.
    """

    def __init__(self, dtype: _C.dtype = _C.float32) -> None:
        self.dtype = _name(dtype)
        if self.dtype not in _FLOATS:
            raise TypeError(f"torch.finfo() requires a floating point input type, got {dtype}")
        exponent, mantissa = _FLOATS[self.dtype]
        largest = 2 ** (exponent - 1) - 1
        self.bits = 1 + exponent + mantissa
        self.eps = 2.0**-mantissa
        self.max = (2 - self.eps) * 2.0**largest
        self.min = -self.max
        self.tiny = self.smallest_normal = 2.0 ** (1 - largest)

    def __repr__(self) -> str:
        return f"finfo(dtype={self.dtype}, eps={self.eps}, max={self.max}, tiny={self.tiny})"


class iinfo:
    """Limits of an integer type: bits, max, min.

    Raises:
        TypeError: the type is none of uint8, int8, int32, int64.
    """

    def __init__(self, dtype: _C.dtype) -> None:
        self.dtype = _name(dtype)
        if self.dtype not in _INTEGERS:
            raise TypeError(f"torch.iinfo() requires an integer input type, got {dtype}")
        self.bits, signed = _INTEGERS[self.dtype]
        self.max = 2 ** (self.bits - signed) - 1
        self.min = -(2 ** (self.bits - 1)) if signed else 0

    def __repr__(self) -> str:
        return f"iinfo(dtype={self.dtype}, min={self.min}, max={self.max})"
