"""`torch.nn.functional`: the operators that the table places here, exposed under their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vibetensor import _C

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


__all__ = sorted(_C.exposed["nn.functional"])
globals().update({name: getattr(_C.ops, name) for name in __all__})
