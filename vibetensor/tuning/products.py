"""Tables of measured choices for matrix products: their files, and the ones that are packaged.

A file is CSV, in the form of PyTorch's TunableOp: lines `Validator,NAME,VALUE` say for what it
holds, the others are rows. `torch.cuda.tunable` writes and reads them. The packaged tables are the
files `products-*.csv` beside this one; they were written the same way.
"""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import NamedTuple

from vibetensor import _C

__all__ = ["Table", "load", "packaged_files", "read", "write"]

LIBRARY = "CUBLASLT_VERSION"
GPU = "GPU_NAME"


class Row(NamedTuple):
    """A problem, how it is solved, and how long that and the heuristic's first choice took."""

    op: str
    params: str
    solution: str
    milliseconds: float
    default_milliseconds: float  # 0: not known


class Table(NamedTuple):
    """The content of a file: for what it holds, by name, and its rows."""

    validators: dict[str, str]
    rows: list[Row]


def packaged_files() -> list[Path]:
    """The tables that come with the package, one a kind of GPU."""
    return sorted(Path(__file__).parent.glob("products-*.csv"))


def read(file: Path) -> Table:
    """The content of a file.

    Raises:
        ValueError: a line is neither a validator nor a row.
        OSError: it cannot be read.
    """
    table = Table({}, [])
    with file.open(newline="") as lines:
        for number, line in enumerate(csv.reader(lines), 1):
            if not line:
                continue
            if line[0] == "Validator" and len(line) == 3:
                table.validators[line[1]] = line[2]
                continue
            try:
                table.rows.append(_row(line))
            except ValueError:
                raise ValueError(
                    f"tunable: line {number} of {file} is no row: expected an operator, parameters,"
                    f" a solution and milliseconds, got {','.join(line)!r}"
                ) from None
    return table


def _row(line: list[str]) -> Row:
    if not 3 <= len(line) <= 5:
        raise ValueError
    times = [float(each) for each in line[3:]] + [0.0, 0.0]
    if not all(math.isfinite(each) and each >= 0 for each in times):
        raise ValueError
    return Row(line[0], line[1], line[2], times[0], times[1])


def write(file: Path, table: Table) -> None:
    """Writes a file, in place of what was there."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.part")  # several may end at one time
    with partial.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows(("Validator", *each) for each in table.validators.items())
        for row in table.rows:
            writer.writerow(
                [*row[:3], f"{row.milliseconds:.6g}", f"{row.default_milliseconds:.6g}"]
            )
    partial.replace(file)  # another process reads the old table or the new one


def load() -> None:
    """Gives the packaged tables to the runtime, which takes rows of its GPU and cuBLASLt."""
    for file in packaged_files():
        validators, rows = read(file)
        _C.add_packaged_products(validators[GPU], int(validators[LIBRARY]), rows)
