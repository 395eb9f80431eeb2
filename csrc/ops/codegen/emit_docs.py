"""The page of all operators that Python sees: signature, what it does, types, gradient, in-place and out= forms, autocast."""

from __future__ import annotations

from .emit_ops import has_inplace
from .emit_python import python_signature
from .schema import KINDS, Op
from .table import Table

TYPES = {"all": "all", "num": "numbers", "int": "integers, bool", "float": "floats"}


def _types(op: Op) -> str:
    over = op.entry.get("over")
    if over is None:
        return ""
    return "numbers, as floats" if op.entry.get("dtype") == "float" else TYPES[over]


def _gradient(op: Op) -> str:
    if not op.differentiable:
        return "none"
    return "yes" if op.gradients is not None or op.kind == "composite" else "no"


def _autocast(op: Op) -> str:
    rules = {kind: rule for kind, rule in op.autocast.items() if rule != "none"}
    if len(rules) == len(KINDS) and len(set(rules.values())) == 1:
        return next(iter(rules.values()))
    return ", ".join(f"{kind}: {rule}" for kind, rule in rules.items())


def operators_md(table: Table) -> str:
    rows = []
    for op in sorted((o for o in table.ops if o.places), key=lambda o: o.python_name):
        forms = [
            form
            for form, there in (("in place", has_inplace(op)), ("out=", op.kind == "pointwise"))
            if there
        ]
        cells = [
            f"`{python_signature(op)}`",
            op.entry["doc"],
            _types(op),
            _gradient(op),
            ", ".join(forms),
            _autocast(op),
            ", ".join(op.places),
        ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    head = "| operator | what it does | types | gradient | forms | autocast | where |\n|---|---|---|---|---|---|---|\n"
    return (
        f"# Operators\n\nGenerated from csrc/ops/table; {len(rows)} entries.\n\n"
        + head
        + "\n".join(rows)
        + "\n"
    )
