"""Module: a tree of parameters, buffers and submodules with a forward.

Parameters, buffers and submodules are plain instance attributes; a module only keeps, per kind, the
ordered names. So reading `self.weight` in a forward is one dictionary hit, and there is one copy of
the truth.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from vibetensor import _C, replay
from vibetensor.nn.conversion import parse_to
from vibetensor.nn.hooks import HookHandle, Hooks
from vibetensor.nn.parameter import Parameter
from vibetensor.nn.state import load_into

Tensor = _C.Tensor
M = TypeVar("M", bound="Module")
T = TypeVar("T")


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` did not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of all layers and models, as in torch.

    A subclass calls `super().__init__()` before it assigns parameters or submodules and implements
    `forward`.
    """

    training: bool
    _parameters: dict[str, None]
    _buffers: dict[str, bool]  # name -> whether it is in the state dict
    _modules: dict[str, None]
    _hooks: Hooks | None = None

    def __init__(self) -> None:
        attributes = self.__dict__
        attributes["training"] = True
        attributes["_parameters"] = {}
        attributes["_buffers"] = {}
        attributes["_modules"] = {}

    def _forward_missing(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    forward: Callable[..., Any] = _forward_missing

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._hooks is None:
            return self.forward(*args, **kwargs)
        return self._hooks.call(self, args, kwargs)

    # -- registration ------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        attributes = self.__dict__
        if isinstance(value, Parameter):
            self._claim(name, "parameter", "_parameters")
        elif isinstance(value, Module):
            self._claim(name, "module", "_modules")
        elif value is not None and "_modules" in attributes:
            for expected, names in (
                ("parameter", self._parameters),
                ("child module", self._modules),
                ("buffer", () if isinstance(value, Tensor) else self._buffers),
            ):
                if name in names:
                    kind = {"parameter": "nn.Parameter", "child module": "nn.Module"}
                    raise TypeError(
                        f"cannot assign '{_type_name(value)}' as {expected} '{name}' "
                        f"(torch.{kind.get(expected, 'Tensor')} or None expected)"
                    )
        elif "_modules" in attributes and (name in self._parameters or name in self._modules):
            replay.module_changed()
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        for names in (self._parameters, self._buffers, self._modules):
            names.pop(name, None)
        replay.module_changed()
        object.__delattr__(self, name)

    def _claim(self, name: str, kind: str, room: str) -> None:
        """Makes `name` a registered name of one kind, and of no other."""
        attributes = self.__dict__
        if "_modules" not in attributes:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
        if kind != "buffer":
            replay.module_changed()
        if name in attributes[room]:
            return
        for other in ("_parameters", "_buffers", "_modules"):
            attributes[other].pop(name, None)
        attributes[room][name] = None

    def _check_new(self, what: str, name: str) -> None:
        if "_modules" not in self.__dict__:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{what} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{what} name can\'t be empty string ""')
        known = (self._parameters, self._buffers, self._modules)
        if hasattr(self, name) and not any(name in names for names in known):
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter, or a name for one that is absent (None), under `self.<name>`."""
        self._check_new("parameter", name)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{_type_name(param)}' object to parameter '{name}' "
                "(torch.nn.Parameter or None required)"
            )
        self._claim(name, "parameter", "_parameters")
        object.__setattr__(self, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that moves with the module and is no parameter; saved if `persistent`."""
        self._check_new("buffer", name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{_type_name(tensor)}' object to buffer '{name}' "
                "(torch Tensor or None required)"
            )
        self._claim(name, "buffer", "_buffers")
        self._buffers[name] = persistent
        object.__setattr__(self, name, tensor)

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a submodule under `self.<name>`."""
        self._check_new("module", name)
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{_type_name(module)} is not a Module subclass")
        self._claim(name, "module", "_modules")
        object.__setattr__(self, name, module)

    register_module = add_module

    # -- walking the tree --------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules, each once."""
        seen: set[int] = set()
        for name in self._modules:
            module = self.__dict__[name]
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct submodules, each once."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, depth first, with dotted names."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name in self._modules:
            module = self.__dict__[name]
            if module is not None:
                below = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, below, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def _named_members(
        self, room: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        owners = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        for owner_name, owner in owners:
            for name in owner.__dict__[room]:
                value = owner.__dict__[name]
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield f"{owner_name}.{name}" if owner_name else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with dotted names, in order of registration."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Parameters in order of registration, each once."""
        return (param for _, param in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers with dotted names, in order of registration."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Buffers in order of registration, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The submodule with that dotted name; AttributeError if there is none."""
        module: Module = self
        for name in target.split(".") if target else ():
            if name not in module._modules or module.__dict__[name] is None:
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            module = module.__dict__[name]
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with that dotted name; AttributeError if there is none."""
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        if name not in owner._parameters:
            raise AttributeError(f"{type(owner).__name__} has no attribute `{name}`")
        param: Parameter = owner.__dict__[name]
        return param

    # -- changing everything at once ---------------------------------------------------------------

    def apply(self: M, fn: Callable[[Module], None]) -> M:
        """Calls `fn` on every submodule, children first, and on this module."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def _convert(self: M, fn: Callable[[Tensor], Tensor]) -> M:
        """Replaces the memory of every parameter (and gradient) and every buffer by fn of it."""
        for module in self.modules():
            for name in module._parameters:
                param = module.__dict__[name]
                if param is None:
                    continue
                old = param.data
                new = fn(old)
                if new is not old:
                    grad = param.grad
                    param.grad = None
                    param.data = new
                    if grad is not None:
                        param.grad = fn(grad.detach())
            for name in module._buffers:
                buffer = module.__dict__[name]
                if buffer is not None:
                    module.__dict__[name] = fn(buffer)
        return self

    def to(self: M, *args: Any, **kwargs: Any) -> M:
        """Moves parameters and buffers to a device and casts the floating-point ones to a dtype.

        Forms: `to(device)`, `to(dtype)`, `to(device, dtype)`, `to(tensor)`; returns self.
        """
        return self._convert(parse_to(args, kwargs))

    def cpu(self: M) -> M:
        """`to("cpu")`."""
        return self.to("cpu")

    def cuda(self: M, device: int | str | _C.device | None = None) -> M:
        """`to` the given, or the current, GPU."""
        if device is None:
            device = "cuda"
        return self.to(f"cuda:{device}" if isinstance(device, int) else device)

    def float(self: M) -> M:
        """Casts floating-point parameters and buffers to float32."""
        return self.to(_C.float32)

    def double(self: M) -> M:
        """Casts floating-point parameters and buffers to float64."""
        return self.to(_C.float64)

    def half(self: M) -> M:
        """Casts floating-point parameters and buffers to float16."""
        return self.to(_C.float16)

    def bfloat16(self: M) -> M:
        """Casts floating-point parameters and buffers to bfloat16."""
        return self.to(_C.bfloat16)

    def train(self: M, mode: bool = True) -> M:
        """Sets training mode on this module and all below it."""
        for module in self.modules():
            if module.__dict__.get("training") is not mode:
                module.__dict__["training"] = mode
                replay.module_changed()
        return self

    def eval(self: M) -> M:
        """`train(False)`."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Turns gradients of all parameters on or off."""
        for param in self.parameters():
            param.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops, or zeroes, the gradients of all parameters."""
        for param in self.parameters():
            if set_to_none:
                param.grad = None
            elif param.grad is not None:
                param.grad.zero_()

    # -- state -------------------------------------------------------------------------------------

    def state_dict(
        self,
        *,
        destination: dict[str, Any] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted name, sharing memory with the module."""
        out = {} if destination is None else destination
        for owner_name, owner in self.named_modules(remove_duplicate=False):
            base = f"{prefix}{owner_name}." if owner_name else prefix
            saved = (name for name, persistent in owner._buffers.items() if persistent)
            for name in itertools.chain(owner._parameters, saved):
                value = owner.__dict__[name]
                if value is not None:
                    out[base + name] = value if keep_vars else value.detach()
        return out

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copies values into parameters and buffers by name.

        Args:
            state_dict: what `state_dict()` returned, for a module of the same shapes.
            strict: missing or unexpected names are errors.
            assign: take the given tensors themselves in place of copying their values.

        Raises:
            RuntimeError: names (if strict) or shapes that do not match, all of them in one message.
        """
        return IncompatibleKeys(*load_into(self, state_dict, strict, assign))

    # -- hooks -------------------------------------------------------------------------------------

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Calls `hook(module, args)` before forward; a result that is not None replaces args."""
        return self._ensure_hooks().add("before", hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Calls `hook(module, args, output)` after forward; a result replaces output."""
        return self._ensure_hooks().add("after", hook, prepend, with_kwargs)

    def _ensure_hooks(self) -> Hooks:
        if self._hooks is None:
            object.__setattr__(self, "_hooks", Hooks())
        assert self._hooks is not None
        return self._hooks

    # -- printing ----------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What a subclass shows between the brackets of its name."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): " + _indent(repr(self.__dict__[name])) for name in self._modules]
        if not children:
            return f"{type(self).__name__}({extra})"
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines + children) + "\n)"


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
