"""Linear: the affine map of the last dimension, and Identity."""

from __future__ import annotations

import math
from typing import Any

from vibetensor import _C
from vibetensor.nn import init
from vibetensor.nn.module import Module
from vibetensor.nn.parameter import Parameter

_linear = _C.ops.linear


class Linear(Module):
    """y = x weight^T + bias.

    Args:
        in_features, out_features: sizes of the last dimension before and after.
        bias: whether to add a bias.

    Shapes: input `(*, in_features)`, output `(*, out_features)`; weight is
    `(out_features, in_features)`.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: _C.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(_C.ops.empty(out_features, in_features, device=device, dtype=dtype))
        self.register_parameter(
            "bias",
            Parameter(_C.ops.empty(out_features, device=device, dtype=dtype)) if bias else None,
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in +-1/sqrt(in_features), weight and bias, as torch does."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: _C.Tensor) -> _C.Tensor:
        return _linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Identity(Module):
    """Returns its input; takes, and ignores, any arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: _C.Tensor) -> _C.Tensor:
        return input
