"""Arrows point downwards: what a C++ file includes lies on its own floor or on a lower one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sources

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)
CONDITION = re.compile(r"^\s*#\s*(if|ifdef|ifndef|endif)\b(.*)$")
CUDA_HEADER = re.compile(r"^(cuda|cub/|cute/|cutlass/|cooperative_groups|mma\.h|nv/|thrust/)")


def project_includes(path: Path) -> list[str]:
    """What `path` includes of the project, as floor/...: generated headers too."""
    names = [name for _, name in INCLUDE.findall(sources.text(path))]
    return [name for name in names if name.split("/")[0] in sources.LEVEL_OF and "/" in name]


def upward_arrow(floor: str, included: str) -> bool:
    other = included.split("/")[0]
    return other != floor and sources.LEVEL_OF[other] >= sources.LEVEL_OF[floor]


def test_every_folder_is_a_floor() -> None:
    floors = {sources.floor_of(path) for path in sources.native()}
    assert floors <= set(sources.LEVEL_OF), "add the new folder to tests/repo/sources.py"


def test_no_upward_include() -> None:
    arrows = [
        f"{path} includes {name}"
        for path in sources.native()
        for name in project_includes(path)
        if upward_arrow(sources.floor_of(path), name)
    ]
    assert not arrows, "\n".join(arrows)


@pytest.mark.parametrize(
    ("floor", "included", "upward"),
    [
        ("ops", "ops/ops.h", False),
        ("ops", "kernels/pointwise.h", False),
        ("iter", "interop/dlpack.h", True),
        ("kernels", "ops/ops.h", True),
        ("autograd", "fabric/topology.h", True),
        ("python", "collectives/communicator.h", False),
    ],
)
def test_the_check_sees_an_upward_arrow(floor: str, included: str, upward: bool) -> None:
    assert upward_arrow(floor, included) is upward


def test_no_circle_of_headers() -> None:
    graph: dict[Path, list[Path]] = {}
    for path in sources.native():
        roots = [Path("csrc"), Path(".")]
        named = [root / name for name in project_includes(path) for root in roots]
        graph[path] = [other for other in named if (sources.ROOT / other).is_file()]
    done: set[Path] = set()

    def visit(path: Path, trail: list[Path]) -> None:
        assert path not in trail, "circle: " + " -> ".join(map(str, [*trail, path]))
        if path not in done:
            for other in graph.get(path, []):
                visit(other, [*trail, path])
            done.add(path)

    for path in graph:
        visit(path, [])


def test_includes_are_spelled_from_the_root() -> None:
    wrong = [
        f"{path} includes {name}"
        for path in sources.native()
        for quote, name in INCLUDE.findall(sources.text(path))
        if name.startswith(".") or (quote == '"' and (sources.ROOT / path.parent / name).is_file())
    ]
    assert not wrong, "\n".join(wrong)


def test_the_core_does_not_name_the_fabric() -> None:
    name = re.compile(r"\b(fabric|collectives)\s*::|#\s*include\s+[<\"](fabric|collectives)/")
    named = [
        str(path)
        for path in sources.native()
        if path.parts[0] == "csrc" and path.parts[1] != "python" and name.search(sources.text(path))
    ]
    assert not named, "\n".join(named)


def unconditional_lines(text: str) -> list[str]:
    """The lines that a compiler other than nvcc sees."""
    kept, conditions = [], []
    for line in text.splitlines():
        match = CONDITION.match(line)
        if match and match[1] == "endif":
            conditions.pop()
        elif match:
            conditions.append("__CUDACC__" in match[2])
        elif not any(conditions):
            kept.append(line)
    return kept


def test_cuda_headers_stay_in_their_folders() -> None:
    wrong = [
        f"{path} includes {name}"
        for path in sources.native()
        if "cuda" not in path.parts
        for _, name in INCLUDE.findall("\n".join(unconditional_lines(sources.text(path))))
        if CUDA_HEADER.match(name) or "/cuda/" in name
    ]
    assert not wrong, "\n".join(wrong)


def test_cuda_sources_stay_in_their_folders() -> None:
    wrong = [
        str(path)
        for path in sources.files()
        if path.suffix in (".cu", ".cuh") and "cuda" not in path.parts and path.parts[0] != "tests"
    ]
    assert not wrong, "\n".join(wrong)
