"""Convolutions of rows and of images, and pooling."""

from __future__ import annotations

import math
from typing import Any

from vibetensor import _C
from vibetensor.nn import init
from vibetensor.nn.module import Module
from vibetensor.nn.parameter import Parameter

Size = int | tuple[int, ...]


def _tuple(size: Size, count: int) -> tuple[int, ...]:
    return (size,) * count if isinstance(size, int) else tuple(size)


class _Convolution(Module):
    """What convolutions of one and of two dimensions share."""

    _dims: int
    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        device: Any = None,
        dtype: _C.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"in_channels {in_channels} and out_channels {out_channels} must be divisible by "
                f"groups {groups}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _tuple(kernel_size, self._dims)
        self.stride = _tuple(stride, self._dims)
        self.padding = _tuple(padding, self._dims)
        self.dilation = _tuple(dilation, self._dims)
        self.groups = groups
        make = {"device": device, "dtype": dtype}
        self.weight = Parameter(
            _C.ops.empty(out_channels, in_channels // groups, *self.kernel_size, **make)
        )
        self.register_parameter(
            "bias", Parameter(_C.ops.empty(out_channels, **make)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in +-1/sqrt(what one output sees), weight and bias, as torch does."""
        seen = self.in_channels // self.groups * math.prod(self.kernel_size)
        bound = 1 / math.sqrt(seen) if seen > 0 else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        ones = (1,) * self._dims
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}",
            f"stride={self.stride}",
        ]
        if self.padding != (0,) * self._dims:
            parts.append(f"padding={self.padding}")
        if self.dilation != ones:
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)


class Conv1d(_Convolution):
    """Rows `(N, C, L)` or `(C, L)` with `out_channels` kernels of `(C / groups, k)`."""

    _dims = 1

    def forward(self, input: _C.Tensor) -> _C.Tensor:
        return _C.ops.conv1d(
            input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class Conv2d(_Convolution):
    """Images `(N, C, H, W)` or `(C, H, W)` with kernels of `(C / groups, kh, kw)`."""

    _dims = 2

    def forward(self, input: _C.Tensor) -> _C.Tensor:
        return _C.ops.conv2d(
            input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class MaxPool2d(Module):
    """The largest element under each position of a window; its stride is its size unless given."""

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation

    def forward(self, input: _C.Tensor) -> _C.Tensor:
        return _C.ops.max_pool2d(
            input,
            _tuple(self.kernel_size, 2),
            _tuple(self.stride, 2),
            _tuple(self.padding, 2),
            _tuple(self.dilation, 2),
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode=False"
        )


class AvgPool2d(Module):
    """The mean under each position of a window, padding counted as zeros."""

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, input: _C.Tensor) -> _C.Tensor:
        return _C.ops.avg_pool2d(
            input, _tuple(self.kernel_size, 2), _tuple(self.stride, 2), _tuple(self.padding, 2)
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
