"""The stub of the C++ module names what is there, and all of it."""

from __future__ import annotations

import ast
from pathlib import Path

from vibetensor import _C

STUB = ast.parse((Path(_C.__file__).parent / "_C.pyi").read_text())  # beside the module
# Only for type checkers.
TYPES = {"Number"}
# There to say that a fabric tensor has no such form.
REFUSED = {"FabricTensor": {"normal_", "uniform_"}}


def names_in(body: list[ast.stmt]) -> set[str]:
    found: set[str] = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def public(names: object) -> set[str]:
    return {name for name in vars(names) if not name.startswith("_")}


def test_the_module() -> None:
    told = names_in(STUB.body)
    absent = {name for name in told if not name.startswith("_") and not hasattr(_C, name)}
    assert absent == TYPES
    assert not public(_C) - told


def test_its_classes() -> None:
    wrong: dict[str, set[str]] = {}
    for node in STUB.body:
        if not isinstance(node, ast.ClassDef) or not hasattr(_C, node.name):
            continue
        cls, told = getattr(_C, node.name), names_in(node.body)
        differs = {name for name in told if not hasattr(cls, name)} | (public(cls) - told)
        if differs := differs - REFUSED.get(node.name, set()):
            wrong[node.name] = differs
    assert not wrong
