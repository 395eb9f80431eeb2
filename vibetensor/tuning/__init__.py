"""Which algorithm carries out a collective on which GPUs: the measured tables and where they lie.

The packaged table is `measured.json` beside this file; `vibetensor bench allreduce --tune` writes
one of the user's, whose rows go before the packaged ones. A row says for which units it holds (GPU,
ranks, devices, kind, bytes of an element, in place or not, up to how many bytes) and what is the
fastest for them (algorithm, blocks, threads, bytes of a chunk; 0: the algorithm's own choice).
Where no row fits, a rule built into the engine chooses.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, TypedDict

from vibetensor import _C

__all__ = ["Row", "load", "packaged_file", "read", "user_file", "write"]

_VERSION = 1


class Row(TypedDict):
    """One line of a table; `place` is "in", "out" or "any", `item_bytes` 0 for any type."""

    gpu: str
    ranks: int
    devices: int
    kind: str
    item_bytes: int
    place: str
    up_to: int
    algorithm: str
    blocks: int
    threads: int
    chunk_bytes: int


def packaged_file() -> Path:
    """The table that comes with the package."""
    return Path(__file__).with_name("measured.json")


def user_file() -> Path | None:
    """The user's own table, which need not exist; None where there is no home folder."""
    folder = _C.cache_folder()
    return Path(folder) / "collectives.json" if folder else None


def read(file: Path) -> list[Row]:
    """The rows of a table.

    Raises:
        ValueError: it is no such table, or of another version.
    """
    content: Any = json.loads(file.read_text())
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise ValueError(f"tuning: {file} is not a table of version {_VERSION}")
    wanted = set(Row.__annotations__)
    rows: list[Row] = content["rows"]
    for row in rows:
        if set(row) != wanted:
            raise ValueError(f"tuning: a row of {file} has {sorted(row)}, not {sorted(wanted)}")
    return rows


def write(file: Path, rows: list[Row]) -> None:
    """Writes a table, in place of what was there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    text = f'{{"version": {_VERSION}, "rows": [\n{lines}\n]}}\n'
    partial = file.with_suffix(".part")
    partial.write_text(text)
    partial.replace(file)  # another process reads the old table or the new one


def load() -> None:
    """Gives the engines the tables; those made from now on use them.

    A user's table that cannot be read or used is left aside with a warning: it must not keep the
    library from starting.
    """
    rows = read(packaged_file())
    file = user_file()
    if file is not None and file.exists():
        try:
            rows = merged(read(file), rows)
            _C.set_measured(rows)
            return
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            warnings.warn(
                f"tuning: {file} is left aside, the packaged table is used: {error}; "
                "repair or remove it",
                RuntimeWarning,
                stacklevel=2,
            )
            rows = read(packaged_file())
    _C.set_measured(rows)


def merged(first: list[Row], second: list[Row]) -> list[Row]:
    """All rows of `first`, and those of `second` for units of which `first` says nothing: other
    ones, or larger ones.
    """
    known: dict[tuple[str, int, int, str], int] = {}
    for row in first:
        known[units(row)] = max(row["up_to"], known.get(units(row), 0))
    return [*first, *(row for row in second if row["up_to"] > known.get(units(row), 0))]


def units(row: Row) -> tuple[str, int, int, str]:
    """What a row is about, whatever the size."""
    return row["gpu"], row["ranks"], row["devices"], row["kind"]
