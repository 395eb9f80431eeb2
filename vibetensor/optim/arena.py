"""Arena: the parameters of one dtype and device as one flat tensor, and their gradients as another.

With both flat, a step of an optimizer is one fused call, and a reduction over devices is one range
of memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from vibetensor import _C
from vibetensor.autograd import no_grad

Tensor = _C.Tensor
NewFlat = Callable[[int, _C.dtype, _C.device], Tensor]

_ALIGNMENT = (
    256  # bytes; every piece starts at a multiple, so vector loads and device copies stay aligned
)


class Arena:
    """Moves parameters into one flat tensor, and gives each a slot in a flat gradient.

    Each parameter keeps its identity, shape and values; its memory becomes a view of `flat`. Its
    first gradient of a pass is written to its slot in `grad`, further ones are added there; setting
    `param.grad = None` empties the slot without touching memory. Parameters in unified memory stay
    there, as do the moments made for them by `new_flat`; gradients never lie there.

    Args:
        params: leaf tensors of one dtype on one device, that share no memory with each other.
        new_grad: makes the flat gradient from (elements, dtype, device), where it must lie in
            special memory; zeros by default.

    Attributes:
        flat, grad: 1-d tensors of `numel` elements, gaps between the pieces filled with zeros.
        offsets: where the piece of each parameter starts, in elements.

    Raises:
        ValueError: no parameters, or ones of different dtypes or devices, or that share memory.
    """

    def __init__(self, params: Sequence[Tensor], new_grad: NewFlat | None = None) -> None:
        self.params = list(params)
        _check(self.params)
        first = self.params[0]
        self.dtype, self.device = first.dtype, first.device
        self._unified = _C.is_unified(first)
        step = max(1, _ALIGNMENT // first.element_size())
        self.offsets: list[int] = []
        self.numel = 0
        for param in self.params:
            self.offsets.append(self.numel)
            self.numel += -(-param.numel() // step) * step
        self.flat = self.new_flat()
        self.grad = (new_grad or _zeros)(self.numel, self.dtype, self.device)
        self._values = self.pieces(self.flat)
        self._slots = self.pieces(self.grad)
        self._addresses = [piece.data_ptr() for piece in self._values]
        self._slot_addresses = [piece.data_ptr() for piece in self._slots]
        for i in range(len(self.params)):
            self._take(i)

    def new_flat(self, dtype: _C.dtype | None = None) -> Tensor:
        """Zeros in the layout of this arena, for instance for a moment of an optimizer."""
        if self._unified:
            return _C.unified_empty([self.numel], dtype or self.dtype, self.device).zero_()
        return _zeros(self.numel, dtype or self.dtype, self.device)

    def pieces(self, flat: Tensor) -> list[Tensor]:
        """The view of `flat` for each parameter, in the parameter's shape."""
        return [
            flat.narrow(0, offset, param.numel()).view(param.shape)
            for offset, param in zip(self.offsets, self.params, strict=True)
        ]

    def end(self, i: int) -> int:
        """Where the piece after parameter i starts."""
        return self.offsets[i + 1] if i + 1 < len(self.offsets) else self.numel

    def moved(self) -> bool:
        """Whether memory of a parameter was replaced (`param.data = ...`) since it was taken in."""
        return any(
            param.data_ptr() != address
            for param, address in zip(self.params, self._addresses, strict=True)
        )

    def refresh(self) -> bool:
        """Takes parameters in again whose memory was replaced (`param.data = ...`) since.

        Returns False, and changes nothing more, where one now has another dtype, device or shape.
        """
        for i, (param, address) in enumerate(zip(self.params, self._addresses, strict=True)):
            if param.data_ptr() != address:
                if param.dtype != self.dtype or param.device != self.device:
                    return False
                if param.shape != self._values[i].shape:
                    return False
                self._take(i)
        return True

    def present(self) -> list[bool]:
        """For each parameter, whether it has a gradient; one that lies elsewhere is copied in."""
        found = []
        for param, slot, address in zip(
            self.params, self._slots, self._slot_addresses, strict=True
        ):
            grad = param.grad
            found.append(grad is not None)
            if grad is not None and grad.data_ptr() != address:
                slot.copy_(grad.detach())
                param.grad = slot
        return found

    def _take(self, i: int) -> None:
        param = self.params[i]
        with no_grad():
            self._values[i].copy_(param.detach())
            grad = param.grad
            if grad is not None:
                self._slots[i].copy_(grad.detach())
            param.data = self._values[i]
            _C.bind_grad(param, self._slots[i])
            param.grad = None if grad is None else self._slots[i]


def kind_of(param: Tensor) -> tuple[_C.dtype, str]:
    """What parameters of one arena have in common: their dtype, and the name of their memory."""
    place = str(param.device)
    return param.dtype, f"unified memory of {place}" if _C.is_unified(param) else place


def _zeros(numel: int, dtype: _C.dtype, device: _C.device) -> Tensor:
    return _C.ops.zeros(numel, dtype=dtype, device=device)


def _check(params: list[Tensor]) -> None:
    if not params:
        raise ValueError("Arena: got no parameters")
    kinds = {kind_of(param) for param in params}
    if len(kinds) > 1:
        names = ", ".join(sorted(f"{dtype} on {place}" for dtype, place in kinds))
        raise ValueError(f"Arena: parameters of several kinds ({names}); make one arena for each")
    ranges = sorted(
        (param.data_ptr(), param.data_ptr() + param.numel() * param.element_size())
        for param in params
        if param.numel() > 0
    )
    for (_, end), (start, _) in itertools.pairwise(ranges):
        if start < end:
            raise ValueError(
                "Arena: two parameters share memory; to tie weights, use one Parameter in both "
                "places"
            )
