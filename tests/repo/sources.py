"""The files of the checkout and their floors; shared by the tests of the repository itself."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Floors of one level do not know each other.
LEVELS = [
    ["base"],
    ["device"],
    ["tensor"],
    ["interop", "iter"],
    ["kernels"],
    ["fuse"],
    ["ops"],
    ["autograd"],
    ["fabric"],
    ["collectives"],
    ["sharding"],
    ["python"],
]
LEVEL_OF = {floor: level for level, floors in enumerate(LEVELS) for floor in floors}


@cache
def files() -> tuple[Path, ...]:
    """Everything that git tracks or would track, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = {Path(name) for name in listed.split("\0") if name}
    return tuple(sorted(path for path in paths if (ROOT / path).is_file()))


def with_suffix(*suffixes: str, under: tuple[str, ...] = ()) -> list[Path]:
    found = [path for path in files() if path.suffix in suffixes]
    return [path for path in found if not under or path.parts[0] in under]


def native() -> list[Path]:
    return with_suffix(
        ".h", ".cpp", ".cu", ".cuh", under=("csrc", "fabric", "collectives", "sharding")
    )


def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def floor_of(path: Path) -> str:
    return path.parts[1] if path.parts[0] == "csrc" else path.parts[0]
