"""Type stubs of the operators, appended to the hand-written part of _C.pyi."""

from __future__ import annotations

import keyword
import re

from .emit_ops import has_inplace
from .emit_python import groups, python_parameters
from .emit_sharding import runs_on_fabric
from .python_names import COMPARISONS, DUNDERS, REFLECTED, UNARY
from .schema import Op
from .table import Table

RETURNS = {"Tensor": "Tensor", "Tensor[]": "tuple[Tensor, ...]"}


def _returns(op: Op) -> str:
    visible = op.visible
    if len(visible) == 1:
        return RETURNS[visible[0].type]
    return _results_class(op)


def _results_class(op: Op) -> str:
    """The name of the tuple with the names of these results."""
    return "_" + "".join(r.name.title() for r in op.visible)


def results(table: Table) -> str:
    """The tuples with names that operators return, each once."""
    classes = {}
    for op in table.ops:
        if len(op.visible) > 1:
            fields = "".join(f"    {r.name}: {RETURNS[r.type]}\n" for r in op.visible)
            classes[_results_class(op)] = f"class {_results_class(op)}(NamedTuple):\n{fields}\n"
    return "".join(classes.values())


def _definition(op: Op, indent: str, *, method: bool, suffix: str, overloaded: bool) -> str:
    pieces = []
    star = False
    for i, p in enumerate(python_parameters(op)):
        if p.keyword_only and not star:
            pieces.append("*")
            star = True
        stub = "self" if method and i == 0 else p.stub
        if keyword.iskeyword(p.name):
            stub = (
                stub.replace(p.name, p.name + "_", 1) if not stub.startswith(p.name + "_") else stub
            )
        if p.type == "int...":
            stub = f"*{p.name}: {p.stub.split(': ')[1]}"
            star = True
        pieces.append(stub)
    if op.kind == "pointwise" and not suffix and op.places:
        pieces += ([] if star else ["*"]) + ["out: Tensor | None = None"]
    head = f"{indent}@overload\n" if overloaded else ""
    doc = op.entry.get("doc", "")
    name = f"{op.python_name}{suffix}"
    if keyword.iskeyword(name):
        return ""
    return f'{head}{indent}def {name}({", ".join(pieces)}) -> {_returns(op)}:\n{indent}    """{doc}"""\n'


def methods(table: Table) -> str:
    out = []
    for ops in groups(table).values():
        chosen = [op for op in ops if "method" in op.places]
        for suffix in ("", "_"):
            picked = [op for op in chosen if not suffix or has_inplace(op)]
            for op in picked:
                out.append(
                    _definition(op, "    ", method=True, suffix=suffix, overloaded=len(picked) > 1)
                )
    return "".join(out)


def operators(table: Table) -> str:
    """Python's operators: the slots that the table fills."""
    out = []
    for op in table.ops:
        kind = op.entry.get("operator")
        if kind is None:
            continue
        if kind in UNARY:
            out.append(f"    def __{kind}__(self) -> Tensor: ...\n")
            continue
        name = DUNDERS.get(kind, kind)
        other = op.parameters[1].stub.split(": ")[1].split(" = ")[0]
        ignore = "  # type: ignore[override]" if kind in ("eq", "ne") else ""
        out.append(f"    def __{name}__(self, other: {other}) -> Tensor: ...{ignore}\n")
        if kind not in COMPARISONS and REFLECTED[kind]:
            out.append(f"    def __r{name}__(self, other: Number) -> Tensor: ...\n")
        if has_inplace(op):
            out.append(f"    def __i{name}__(self: _T, other: {other}) -> _T: ...\n")
    return "".join(out)


def functions(table: Table) -> str:
    out = []
    for ops in groups(table).values():
        for op in ops:
            out.append(
                _definition(op, "    ", method=False, suffix="", overloaded=len(ops) > 1).replace(
                    "def ", "def ", 1
                )
            )
    return "".join(out)


def of_fabric(text: str) -> str:
    """The same methods of fabric tensors, without those that they do not have."""
    return re.sub(r"(?<!\w)Tensor(?!\w)", "FabricTensor", text).replace("_T", "_F")


def stub(table: Table, handwritten: str) -> str:
    """The whole stub: the hand-written text with its two markers replaced."""
    static = functions(table)
    static = "\n".join(
        f"    @staticmethod\n{line}" if line.startswith("    def ") else line
        for line in static.splitlines()
    )
    handwritten = handwritten.replace("# {results}\n", results(table))
    fabric = Table([op for op in table.ops if runs_on_fabric(op)], table.kernels)
    for marker, text in (
        ("fabric_operators", of_fabric(operators(fabric))),
        ("fabric_methods", of_fabric(methods(fabric))),
        ("operators", operators(table)),
        ("methods", methods(table)),
        ("functions", static + "\n"),
    ):
        handwritten = handwritten.replace(f"    # {{{marker}}}\n", text)
    return handwritten
