"""Signatures of the operator table: their grammar and their C++ and Python spellings.

A signature reads ``name(Type name=default, *, Type name) -> Type``. ``Tensor!`` is modified in place, ``int...`` may be given
as separate positional numbers, a trailing ``?`` on a type makes None allowed, and ``hidden`` marks a result that only
backward sees. ``int[]`` says something of each dimension, so it is as short as a shape; ``size[]`` may have any length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

# type -> (code for the Python binder, C++ parameter type, C++ type when saved or returned, converter, stub)
TYPES: dict[str, tuple[str, str, str, str, str]] = {
    "Tensor": ("T", "const Tensor&", "Tensor", "tensor", "Tensor"),
    "Tensor!": ("T", "const Tensor&", "Tensor", "tensor", "Tensor"),
    "Tensor?": ("T", "const Tensor&", "Tensor", "optional_tensor", "Tensor | None"),
    "Tensor[]": (
        "L",
        "const std::vector<Tensor>&",
        "std::vector<Tensor>",
        "tensors",
        "Sequence[Tensor]",
    ),
    "Operand": ("O", "const Operand&", "OperandValue", "operand", "Tensor | Number"),
    "Scalar": ("S", "Scalar", "Scalar", "scalar", "Number"),
    "Scalar?": ("S", "Scalar", "Scalar", "optional_scalar", "Number | None"),
    "int": ("i", "int64_t", "int64_t", "integer", "_int"),
    "int?": (
        "i",
        "std::optional<int64_t>",
        "std::optional<int64_t>",
        "optional_integer",
        "_int | None",
    ),
    "float": ("f", "double", "double", "number", "_float"),
    "float?": (
        "f",
        "std::optional<double>",
        "std::optional<double>",
        "optional_number",
        "_float | None",
    ),
    "bool": ("b", "bool", "bool", "boolean", "_bool"),
    "str": ("s", "std::string_view", "std::string", "string", "str"),
    "str?": ("s", "std::string_view", "std::string", "optional_string", "str | None"),
    "int[]": ("I", "const Dims&", "Dims", "dims", "Sequence[_int]"),
    "size[]": (
        "I",
        "std::span<const int64_t>",
        "std::vector<int64_t>",
        "integers",
        "Sequence[_int]",
    ),
    "int...": ("V", "const Dims&", "Dims", "dims", "_int | Sequence[_int]"),
    "int[]?": (
        "I",
        "const std::optional<Dims>&",
        "std::optional<Dims>",
        "optional_dims",
        "_int | Sequence[_int] | None",
    ),
    "dtype": ("d", "DType", "DType", "dtype", "_dtype"),
    "dtype?": (
        "d",
        "std::optional<DType>",
        "std::optional<DType>",
        "optional_dtype",
        "_dtype | None",
    ),
    "device": ("D", "Device", "Device", "device", "_Place"),
    "device?": (
        "D",
        "std::optional<Device>",
        "std::optional<Device>",
        "optional_device",
        "_Place | None",
    ),
}

KINDS = ("cpu", "cuda")  # of devices
AUTOCAST = ("none", "lower", "float32", "widest")


@dataclass(frozen=True)
class Parameter:
    """One argument of an operator."""

    type: str
    name: str
    default: str | None
    keyword_only: bool

    @property
    def is_tensor(self) -> bool:
        return self.type.startswith("Tensor")

    @property
    def is_list(self) -> bool:
        return self.type == "Tensor[]"

    @property
    def differentiable(self) -> bool:
        return self.is_tensor or self.type == "Operand"

    @property
    def code(self) -> str:
        return TYPES[self.type][0]

    @property
    def cpp(self) -> str:
        return f"{TYPES[self.type][1]} {self.name}"

    @property
    def saved_type(self) -> str:
        return TYPES[self.type][2]

    @property
    def converter(self) -> str:
        return TYPES[self.type][3]

    @property
    def optional(self) -> bool:
        return self.default is not None or self.type.endswith("?")

    @property
    def stub(self) -> str:
        text = f"{self.name}: {TYPES[self.type][4]}" if self.name != "from" else "from_: _float"
        return text if self.default is None else f"{text} = {self.default}"

    @property
    def cpp_default(self) -> str:
        """The default as a C++ expression."""
        if self.default is None or self.default == "None":
            return {"Tensor?": "Tensor()", "Scalar?": "Scalar::none()", "str?": '""'}.get(
                self.type, f"{self.saved_type}{{}}"
            )
        if self.default in ("True", "False"):
            return self.default.lower()
        if self.type == "Scalar":
            return f"Scalar({self.default})"
        return self.default


@dataclass(frozen=True)
class Result:
    """One result of an operator."""

    type: str
    name: str
    hidden: bool = False


@dataclass
class Op:
    """One entry of the table."""

    name: str
    parameters: list[Parameter]
    results: list[Result]
    entry: dict[str, Any]
    text: str
    gradients: dict[str, str] | None = field(
        default=None
    )  # input name(s) -> formula; None: no derivative is known
    differentiable: bool = True  # False: the results never carry a gradient

    @property
    def kind(self) -> str:
        for kind in ("pointwise", "raw", "composite"):
            if kind in self.entry:
                return kind
        raise ValueError(f"{self.name}: an entry is pointwise, raw or composite")

    @property
    def python_name(self) -> str:
        return str(self.entry.get("overload", self.name))

    @property
    def places(self) -> list[str]:
        return list(self.entry.get("python", []))

    @property
    def visible(self) -> list[Result]:
        return [r for r in self.results if not r.hidden]

    @property
    def mutates(self) -> bool:
        return any(p.type == "Tensor!" for p in self.parameters)

    @property
    def autocast(self) -> dict[str, str]:
        """The rule of autocast on each kind of device; empty where it leaves the operator alone."""
        given = self.entry.get("autocast")
        if given is None:
            return {}
        found = given if isinstance(given, dict) else dict.fromkeys(KINDS, given)
        if self.mutates or set(found) - set(KINDS) or set(found.values()) - set(AUTOCAST):
            raise ValueError(f"operator table: {self.name}: autocast cannot be {given!r}")
        return {kind: found.get(kind, "none") for kind in KINDS}

    def cpp_parameters(self) -> str:
        return ", ".join(p.cpp for p in self.parameters)

    def cpp_declaration(self) -> str:
        """The parameters with their defaults, where all later ones have defaults too."""
        pieces: list[str] = []
        open_end = self.entry.get("cpp_defaults", True)
        for p in reversed(self.parameters):
            open_end = open_end and p.default is not None
            pieces.append(f"{p.cpp} = {p.cpp_default}" if open_end else p.cpp)
        return ", ".join(reversed(pieces))

    def cpp_arguments(self) -> str:
        return ", ".join(p.name for p in self.parameters)

    def return_type(self, *, raw: bool) -> str:
        results = self.results if raw else self.visible
        if len(results) > 1:
            return "std::tuple<" + ", ".join(TYPES[r.type][2] for r in results) + ">"
        return TYPES[results[0].type][2]


_PARAMETER = re.compile(
    r"^(?P<type>[A-Za-z]+(?:\[\]\??|\.\.\.|[?!])?)\s+(?P<name>\w+)(?:\s*=\s*(?P<default>.+))?$"
)
_SIGNATURE = re.compile(r"^(?P<name>\w+)\((?P<parameters>.*)\)\s*->\s*(?P<results>.+)$")


def parse(entry: dict[str, Any]) -> Op:
    """One table entry with an ``op`` key."""
    text = entry["op"]
    match = _SIGNATURE.match(text)
    if not match:
        raise ValueError(f"operator table: cannot read the signature {text!r}")
    parameters: list[Parameter] = []
    keyword_only = False
    for piece in filter(None, (p.strip() for p in match["parameters"].split(","))):
        if piece == "*":
            keyword_only = True
            continue
        found = _PARAMETER.match(piece)
        if not found or found["type"] not in TYPES:
            raise ValueError(
                f"operator table: {match['name']}: cannot read the parameter {piece!r}"
            )
        parameters.append(Parameter(found["type"], found["name"], found["default"], keyword_only))
    results = [_parse_result(piece) for piece in match["results"].strip().strip("()").split(",")]
    op = Op(match["name"], parameters, results, entry, text)
    gradient = entry.get("grad")
    if gradient == "none":
        op.differentiable = False
    elif gradient is not None:
        op.gradients = dict(gradient)
        for names in op.gradients:
            for name in names.split(","):
                if name.strip() not in [p.name for p in parameters if p.differentiable]:
                    raise ValueError(
                        f"operator table: {op.name}: gradient of unknown input {name.strip()!r}"
                    )
    return op


def _parse_result(piece: str) -> Result:
    words = piece.split()
    hidden = words[0] == "hidden"
    words = words[hidden:]
    return Result(words[0], words[1] if len(words) > 1 else "result", hidden)
