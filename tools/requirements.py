"""Prints requirements of pyproject.toml, one a line: `build`, `run`, an extra or a group."""

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:  # the copy that every pip carries
    from pip._vendor import tomli as tomllib


def main(groups: list[str]) -> None:
    root = Path(__file__).resolve().parent.parent
    table = tomllib.loads((root / "pyproject.toml").read_text())
    known = {
        "build": table["build-system"]["requires"],
        "run": table["project"]["dependencies"],
        **table["project"]["optional-dependencies"],
        **table["dependency-groups"],
    }
    for group in groups:
        print(*known[group], sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
