"""GradScaler: the loss scale of float16 training, in the loop that PyTorch's scripts write."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple

from vibetensor import _C
from vibetensor.autograd import no_grad

Tensor = _C.Tensor

_HIGHEST = 2.0**127  # the largest power of two that float32 has


class _Stage(Enum):
    """What has been done with an optimizer's gradients since the last update()."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


class _Found(NamedTuple):
    """What the gradients of one device say. All are 0-d float32 on it, and nothing waits for them:
    their norm, the factor that undoes the scale, and 1 where they overflowed, else 0.
    """

    norm: Tensor
    factor: Tensor
    overflow: Tensor


class _Record:
    """An optimizer since the last update()."""

    def __init__(self) -> None:
        self.stage = _Stage.READY
        self.found: list[_Found] = []


class GradScaler:
    """Multiplies losses by a scale that keeps float16 gradients above underflow.

    An update whose gradients have infinities or NaN is skipped and shrinks the scale; many without
    let it grow. The scale and the decision stay on the device: `step` and `update` wait for nothing
    with the optimizers of this package, on one device each. Of any other optimizer, or of one with
    parameters on several devices, `step` reads whether to skip, as PyTorch does.

    An overflow is found by the norm of the gradients, so that float32 gradients whose squares are
    too large for float32 (a norm above 1.8e19) count as one, too.

    Args:
        device: "cuda" or "cpu".
        init_scale: the first scale.
        growth_factor: what it is multiplied with after `growth_interval` steps without overflow.
        backoff_factor: what it is multiplied with after an overflow.
        growth_interval: steps without overflow before it grows.
        enabled: False makes everything pass through; so does "cuda" without a GPU, with a warning.

    Raises:
        AssertionError: growth_factor is not above 1, or backoff_factor not below.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._device = device
        self._enabled = enabled
        if enabled and device == "cuda" and _C.device_count("cuda") == 0:
            warnings.warn("GradScaler: there is no GPU, so it does nothing", stacklevel=2)
            self._enabled = False
        if self._enabled:
            if not growth_factor > 1:
                raise AssertionError(f"GradScaler: growth_factor {growth_factor} is not above 1")
            if not backoff_factor < 1:
                raise AssertionError(f"GradScaler: backoff_factor {backoff_factor} is not below 1")
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._start = (init_scale, 0)  # scale and steps that it was good, until there is a device
        self._state: Tensor | None = None  # the same two, float32[2], where the first loss was
        self._records: dict[int, _Record] = {}  # by id of the optimizer

    def scale(self, outputs: Any) -> Any:
        """A tensor times the scale, or the same of each tensor in nested iterables.

        Raises:
            ValueError: there is something else than tensors in them.
        """
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            if self._state is None:
                self._state = _C.tensor(list(map(float, self._start))).to(outputs.device)
            return outputs * self._state[0].to(outputs.device)
        if isinstance(outputs, Iterable):
            scaled = map(self.scale, outputs)
            return type(outputs)(scaled) if isinstance(outputs, (list, tuple)) else scaled
        raise ValueError(
            "GradScaler.scale: expected a Tensor or an iterable of Tensors, got "
            f"{type(outputs).__name__}"
        )

    def unscale_(self, optimizer: Any) -> None:
        """Divides the gradients of an optimizer's parameters by the scale, as for clipping them.

        Raises:
            RuntimeError: it was called for that optimizer already, or after its step.
            ValueError: gradients are float16, which the scale would underflow again.
            AssertionError: nothing was scaled yet.
        """
        if not self._enabled:
            return
        record = self._record(optimizer, "unscale_")
        if record.stage is _Stage.UNSCALED:
            raise RuntimeError(
                "unscale_() has already been called on this optimizer since the last update()."
            )
        if record.stage is _Stage.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        groups = _grads(optimizer)
        if any(grad.dtype == _C.float16 for grads in groups.values() for grad in grads):
            raise ValueError("Attempting to unscale FP16 gradients.")
        with no_grad():
            record.found = [self._look(grads) for grads in groups.values()]
            for grads, found in zip(groups.values(), record.found, strict=True):
                for grad in grads:
                    grad.mul_(found.factor)
        record.stage = _Stage.UNSCALED

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """`optimizer.step(*args, **kwargs)` on gradients without the scale, or nothing at all where
        they overflowed. Returns what that returns; None where it was skipped.

        Raises:
            RuntimeError: called twice without update() in between, or with a closure.
            AssertionError: nothing was scaled yet, or the optimizer has no gradients.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        record = self._record(optimizer, "step")
        if record.stage is _Stage.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        groups = _grads(optimizer)
        on_device = len(groups) == 1 and _takes_found_inf(type(optimizer).step)
        if record.stage is _Stage.READY:
            if on_device:
                with no_grad():
                    record.found = [self._look(grads) for grads in groups.values()]
            else:
                self.unscale_(optimizer)
        if not record.found:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        if on_device:
            found = record.found[0]
            factor = found.factor if record.stage is _Stage.READY else None
            result = optimizer.step(*args, grad_scale=factor, found_inf=found.overflow, **kwargs)
        elif any(found.overflow.item() for found in record.found):
            result = None
        else:
            result = optimizer.step(*args, **kwargs)
        record.stage = _Stage.STEPPED
        return result

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Adapts the scale to what the steps since the last update found, or sets it.

        Raises:
            AssertionError: nothing was scaled, or no optimizer stepped.
        """
        if not self._enabled:
            return
        state = self._scaled("update")
        if new_scale is not None:
            with no_grad():
                if isinstance(new_scale, Tensor):
                    state[0].copy_(new_scale.reshape(()))
                else:
                    state[0].fill_(float(new_scale))
        else:
            norms = [found.norm for record in self._records.values() for found in record.found]
            if not norms:
                raise AssertionError("No inf checks were recorded prior to update.")
            self._adapt(state, _joined([norm.to(state.device) for norm in norms]))
        self._records.clear()

    # -- what it knows -----------------------------------------------------------------------------

    def get_scale(self) -> float:
        """The scale now. Waits for the device."""
        return self._numbers()[0] if self._enabled else 1.0

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._enabled

    def get_growth_factor(self) -> float:
        """What the scale is multiplied with when it grows."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Sets that."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale is multiplied with after an overflow."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Sets that."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """Steps without overflow before the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Sets that."""
        self._growth_interval = new_interval

    def state_dict(self) -> dict[str, Any]:
        """In PyTorch's format; empty where it does nothing. Waits for the device."""
        if not self._enabled:
            return {}
        scale, good = self._numbers()
        return {
            "scale": scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": good,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` gave, here or in PyTorch.

        Raises:
            RuntimeError: it is empty, as of a scaler that did nothing.
        """
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "GradScaler.load_state_dict: the state is empty, as that of a disabled GradScaler"
            )
        self._growth_factor = float(state_dict["growth_factor"])
        self._backoff_factor = float(state_dict["backoff_factor"])
        self._growth_interval = int(state_dict["growth_interval"])
        self._start = (float(state_dict["scale"]), int(state_dict["_growth_tracker"]))
        if self._state is not None:
            with no_grad():
                self._state.copy_(_C.tensor(list(map(float, self._start))))

    def __getstate__(self) -> dict[str, Any]:
        if self._records:
            raise AssertionError(
                "GradScaler: it cannot be pickled before update(), which ends a step"
            )
        return {**self.__dict__, "_start": self._numbers(), "_state": None}

    # -- how it goes about it ----------------------------------------------------------------------

    def _numbers(self) -> tuple[float, int]:
        if self._state is None:
            return float(self._start[0]), self._start[1]
        scale, good = self._state.tolist()
        return scale, int(good)

    def _scaled(self, what: str) -> Tensor:
        if self._state is None:
            raise AssertionError(
                f"GradScaler.{what}: nothing was scaled; scaler.scale(loss).backward() comes first"
            )
        return self._state

    def _record(self, optimizer: Any, what: str) -> _Record:
        self._scaled(what)
        return self._records.setdefault(id(optimizer), _Record())

    def _adapt(self, state: Tensor, norm: Tensor) -> Tensor:
        """What gradients with this norm make of the state, in place; see the operator."""
        return _C.ops.loss_scale_(
            state,
            norm,
            growth=self._growth_factor,
            backoff=self._backoff_factor,
            lowest=0.0,
            highest=_HIGHEST,
            interval=self._growth_interval,
        )

    def _look(self, grads: list[Tensor]) -> _Found:
        """What the gradients of one device say, whose scale goes on only with update()."""
        by_type: dict[_C.dtype, list[Tensor]] = {}
        for grad in grads:
            by_type.setdefault(grad.dtype, []).append(grad)
        norm = _joined([_C.ops.norm_list(alike).float() for alike in by_type.values()])
        state = self._scaled("step")
        own = state.clone() if state.device == norm.device else state.to(norm.device)
        factor, overflow, _ = self._adapt(own, norm).unbind(0)
        return _Found(norm, factor, overflow)


def _joined(norms: list[Tensor]) -> Tensor:
    return norms[0] if len(norms) == 1 else _C.ops.norm_list(norms)


def _grads(optimizer: Any) -> dict[str, list[Tensor]]:
    """The gradients of an optimizer's parameters by device."""
    found: dict[str, list[Tensor]] = {}
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param.grad is not None:
                found.setdefault(str(param.grad.device), []).append(param.grad)
    return found


@functools.cache
def _takes_found_inf(step: Callable[..., Any]) -> bool:
    """Whether the device can decide that this step is skipped."""
    return {"grad_scale", "found_inf"} <= inspect.signature(step).parameters.keys()
