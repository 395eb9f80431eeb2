"""Function: operations with a forward and a backward written in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vibetensor import _C
from vibetensor.autograd.grad_mode import no_grad

Tensor = _C.Tensor


class FunctionContext:
    """What a forward leaves for its backward; any other attribute may be set on it as well.

    Attributes:
        needs_input_grad: for each argument of forward, whether its gradient is wanted.
        saved_tensors: in backward, what forward gave to `save_for_backward`.
    """

    saved_tensors: tuple[Tensor, ...]

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._to_save: tuple[Tensor | None, ...] = ()
        self._constant: set[int] = set()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps inputs or outputs; changing one in place before backward is then an error."""
        self._to_save = tensors

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """These outputs carry no gradient; backward gets zeros for them."""
        self._constant.update(id(output) for output in outputs)


class Function:
    """Base class: a subclass gives static `forward(ctx, *args)` and `backward(ctx, *grads)`.

    `backward` gets one gradient for each tensor that forward returned, zeros where none arrived,
    and returns one gradient or None for each argument of forward. Call it as `Name.apply(*args)`.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """Computes the outputs; nothing in it is recorded."""
        raise NotImplementedError("a Function needs a static forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Computes the gradients of the arguments from those of the outputs."""
        raise NotImplementedError("a Function needs a static backward(ctx, *grads)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Runs forward on the arguments and makes it part of the graph.

        Raises:
            RuntimeError: in backward, where the count or a shape of the gradients is wrong.
        """
        is_input = [isinstance(arg, Tensor) for arg in args]
        ctx = FunctionContext(
            tuple(known and arg.requires_grad for known, arg in zip(is_input, args, strict=True))
        )
        with no_grad():
            returned = cls.forward(ctx, *args)
        outputs = list(returned) if isinstance(returned, tuple) else [returned]
        places = [
            i
            for i, output in enumerate(outputs)
            if isinstance(output, Tensor) and id(output) not in ctx._constant
        ]
        backward = cls._backward(ctx, is_input, outputs, places)
        inputs = [arg for known, arg in zip(is_input, args, strict=True) if known]
        if places:
            recorded = _C.record_function(
                f"{cls.__name__}Backward",
                backward,
                inputs,
                [outputs[i] for i in places],
                list(ctx._to_save),
            )
            for i, output in zip(places, recorded, strict=True):
                outputs[i] = output
        ctx._to_save, ctx._constant = (), set()
        return tuple(outputs) if isinstance(returned, tuple) else outputs[0]

    @classmethod
    def _backward(
        cls, ctx: FunctionContext, is_input: list[bool], outputs: list[Any], places: list[int]
    ) -> Callable[[tuple[Tensor, ...], tuple[Tensor, ...]], list[Tensor | None]]:
        """The function that the node calls: from gradients of `places` to those of the inputs."""
        constant = {
            i: (output.shape, output.dtype, output.device)
            for i, output in enumerate(outputs)
            if isinstance(output, Tensor) and i not in places
        }

        def backward(saved: tuple[Tensor, ...], grads: tuple[Tensor, ...]) -> list[Tensor | None]:
            ctx.saved_tensors = saved
            given: dict[int, Tensor] = dict(zip(places, grads, strict=True))
            for i, (shape, dtype, device) in constant.items():
                given[i] = _C.ops.zeros(shape, dtype=dtype, device=device)
            found = cls.backward(ctx, *(given[i] for i in sorted(given)))
            found = found if isinstance(found, tuple) else (found,)
            del ctx.saved_tensors
            if len(found) != len(is_input):
                raise RuntimeError(
                    f"function {cls.__name__}Backward returned an incorrect number of gradients "
                    f"(expected {len(is_input)}, got {len(found)})"
                )
            return [grad for known, grad in zip(is_input, found, strict=True) if known]

        return backward
