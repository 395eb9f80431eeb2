"""Parameter: the tensor that a module trains."""

from __future__ import annotations

from typing import Any

from vibetensor import _C


class Parameter(_C.Tensor):
    """A leaf tensor that `Module` registers when it is assigned as an attribute.

    Args:
        data: the values; the parameter shares their memory. An empty float32 tensor by default.
        requires_grad: whether backward accumulates into `grad`.
    """

    def __new__(cls, data: _C.Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = _C.ops.empty(0)
        if not isinstance(data, _C.Tensor):
            raise TypeError(f"Parameter: expected a Tensor, got {type(data).__name__}")
        self = super().__new__(cls, data.detach())
        self.requires_grad = requires_grad
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.detach().clone(), self.requires_grad)
        copy: Parameter = memo[id(self)]
        return copy

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()
