"""The Python rooms of vibetensor/ form no circle, and nobody enters through the command line."""

from __future__ import annotations

import ast
from pathlib import Path

import sources

PACKAGE = "vibetensor"


def module_name(path: Path) -> str:
    parts = list(path.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sources.with_suffix(".py", under=(PACKAGE,))}


def imported(node: ast.AST, module: str, is_package: bool) -> list[str]:
    """The full names that one import statement may mean: `from a import b` is a.b or a."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        up = module.split(".")
        up = up[: len(up) - node.level + (1 if is_package else 0)]
        base = ".".join([*up, *([node.module] if node.module else [])])
    return [f"{base}.{alias.name}" for alias in node.names]


def run_at_import(tree: ast.Module) -> list[ast.AST]:
    """Statements that run when the module is imported: no function bodies, no TYPE_CHECKING."""
    found: list[ast.AST] = []
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        found.append(node)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not typing_only and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def room(module: str) -> str:
    """vibetensor.nn.linear lies in the room nn; the package's own __init__ is the front hall."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else PACKAGE


def arrows() -> dict[str, set[str]]:
    known = modules()
    rooms = {room(module) for module in known} | {"_C"}
    graph: dict[str, set[str]] = {name: set() for name in rooms}
    for module, path in known.items():
        is_package = path.name == "__init__.py"
        for node in run_at_import(ast.parse(sources.text(path))):
            for name in imported(node, module, is_package):
                if name.split(".")[0] == PACKAGE and (other := room(name)) in rooms:
                    graph[room(module)].add(other)
    return {name: others - {name} for name, others in graph.items()}


def test_no_circle_of_rooms() -> None:
    graph = arrows()
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> None:
        assert name not in trail, "circle: " + " -> ".join([*trail, name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, [*trail, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_nobody_imports_the_command_line() -> None:
    users = sorted(
        name for name, others in arrows().items() if "cli" in others and name != "__main__"
    )
    assert not users, f"{users} import vibetensor.cli"


def test_the_package_imports_neither_torch_nor_heavy_packages() -> None:
    """`import vibetensor` stays quick: plotting and the like are imported where they are used."""
    heavy = {"torch", "matplotlib", "sklearn", "triton", "scipy"}
    wrong = [
        f"{path} imports {name}"
        for module, path in modules().items()
        for node in run_at_import(ast.parse(sources.text(path)))
        for name in imported(node, module, path.name == "__init__.py")
        if name.split(".")[0] in heavy
    ]
    assert not wrong, "\n".join(wrong)
