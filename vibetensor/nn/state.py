"""Loading a state dict into a module: by name and shape, every mismatch in one message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vibetensor import _C
from vibetensor.autograd import no_grad
from vibetensor.nn.parameter import Parameter

if TYPE_CHECKING:
    from vibetensor.nn.module import Module


def load_into(
    module: Module, state: Mapping[str, Any], strict: bool, assign: bool
) -> tuple[list[str], list[str]]:
    """Copies (or assigns) the values of `state`; returns the missing and the unexpected names."""
    if not isinstance(state, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state)}.")
    errors: list[str] = []
    missing: list[str] = []
    unexpected = dict.fromkeys(state)
    for prefix, owner in module.named_modules(remove_duplicate=False):
        saved = [name for name, persistent in owner._buffers.items() if persistent]
        for name in (*owner._parameters, *saved):
            target = owner.__dict__[name]
            if target is None:
                continue
            key = f"{prefix}.{name}" if prefix else name
            if key not in state:
                missing.append(key)
                continue
            unexpected.pop(key, None)
            _load_one(owner, name, key, target, state[key], assign, errors)
    names = list(unexpected)
    if strict:
        if names:
            errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(names)}. ")
        if missing:
            errors.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
    if errors:
        title = f"Error(s) in loading state_dict for {type(module).__name__}:"
        raise RuntimeError(title + "\n\t" + "\n\t".join(errors))
    return missing, names


def _load_one(
    owner: Module,
    name: str,
    key: str,
    target: Any,
    value: Any,
    assign: bool,
    errors: list[str],
) -> None:
    on_fabric: bool = isinstance(target, _C.FabricTensor)
    if on_fabric and isinstance(value, _C.Tensor):
        value = _C.distribute(value, target.mesh, target.placement)
    kind: Any = _C.FabricTensor if on_fabric else _C.Tensor
    if not isinstance(value, kind):
        errors.append(
            f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like '
            f"object from checkpoint but received {type(value)}"
        )
        return
    if tuple(value.shape) != tuple(target.shape):
        errors.append(
            f"size mismatch for {key}: copying a param with shape {_shape(value)} from "
            f"checkpoint, the shape in current model is {_shape(target)}."
        )
        return
    if not assign:
        with no_grad():
            target.copy_(value)
    elif on_fabric:
        owner.__dict__[name] = value.requires_grad_(target.requires_grad)
    elif isinstance(target, Parameter) and not isinstance(value, Parameter):
        setattr(owner, name, Parameter(value, target.requires_grad))
    else:
        setattr(owner, name, value)


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _shape(tensor: Any) -> str:
    return f"torch.Size({list(tensor.shape)})"
