"""Modules that hold other modules or parameters: in a row, a list or a dictionary."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from vibetensor.nn.activation import GELU
from vibetensor.nn.in_one import gelu_layer, is_gelu_layer
from vibetensor.nn.linear import Linear
from vibetensor.nn.module import Module
from vibetensor.nn.parameter import Parameter


class _Row(Module):
    """Submodules named "0", "1", ... in order."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter([self.__dict__[name] for name in self._modules])

    def _name(self, index: int) -> str:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range")
        return list(self._modules)[index]

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> _Row: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._of(list(self)[index])
        return self.__dict__[self._name(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._refill(modules)

    def _of(self, modules: list[Module]) -> _Row:
        raise NotImplementedError

    def _refill(self, modules: list[Module]) -> None:
        for name in list(self._modules):
            delattr(self, name)
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def append(self, module: Module) -> _Row:
        """Adds a module at the end; returns self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> _Row:
        """Adds several modules at the end; returns self."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Adds a module before the one at `index`."""
        modules = list(self)
        modules.insert(index, module)
        self._refill(modules)


class Sequential(_Row):
    """Calls its modules one after the other. Takes modules, or one dict of name to module.

    A Linear and a GELU(approximate="tanh") behind it are computed in one product, rounded once,
    unless one of them has hooks.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            for i, module in enumerate(args):
                self.add_module(str(i), module)

    def _of(self, modules: list[Module]) -> _Row:
        return Sequential(*modules)

    def forward(self, input: Any) -> Any:
        attributes = self.__dict__
        if not GELU.tanh_made:
            for name in self._modules:
                input = attributes[name](input)
            return input
        layer: Any = None  # what may be one with the module behind it
        for name in self._modules:
            module = attributes[name]
            if layer is not None:
                if is_gelu_layer(layer, module):
                    input, layer = gelu_layer(layer, input), None
                    continue
                input, layer = layer(input), None
            if type(module) is Linear:
                layer = module
            else:
                input = module(input)
        return input if layer is None else layer(input)


class ModuleList(_Row):
    """A list of modules that are registered; it has no forward of its own."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def _of(self, modules: list[Module]) -> _Row:
        return ModuleList(modules)


class ModuleDict(Module):
    """A dictionary of modules that are registered; it has no forward of its own."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Any:
        if key not in self._modules:
            raise KeyError(key)
        return self.__dict__[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        if key not in self._modules:
            raise KeyError(key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._modules))

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def keys(self) -> list[str]:
        """The names, in order."""
        return list(self._modules)

    def values(self) -> list[Any]:
        """The modules, in order."""
        return [self.__dict__[name] for name in self._modules]

    def items(self) -> list[tuple[str, Any]]:
        """The names and modules, in order."""
        return [(name, self.__dict__[name]) for name in self._modules]

    def update(self, modules: Mapping[str, Module]) -> None:
        """Adds or replaces several modules."""
        for name, module in modules.items():
            self[name] = module


class ParameterList(Module):
    """A list of parameters that are registered; plain tensors become parameters."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        for value in values or ():
            self.append(value)

    def append(self, value: Any) -> ParameterList:
        """Adds a parameter at the end; returns self."""
        param = value if isinstance(value, Parameter) else Parameter(value)
        self.register_parameter(str(len(self)), param)
        return self

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter([self.__dict__[name] for name in self._parameters])

    def __getitem__(self, index: int) -> Parameter:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range")
        return list(self)[index]

    def extra_repr(self) -> str:
        return "\n".join(
            f"({name}): Parameter of shape {list(self.__dict__[name].shape)}"
            for name in self._parameters
        )
