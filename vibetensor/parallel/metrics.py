"""metrics.jsonl: one JSON line a step, which a resumed run continues without gap or repetition."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The steps in a file, without a last line that was cut short; [] if there is no file."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:  # a process was killed in the middle of writing
            break
    return found


class MetricsLog:
    """Appends steps to a file.

    Args:
        path: the file.
        after_step: what the file says about later steps is dropped: a run that goes on from there
            writes them again.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], after_step: int) -> None:
        self.path = Path(path)
        kept = [entry for entry in read(self.path) if entry["step"] <= after_step]
        self._file: BinaryIO = open(self.path, "wb")  # noqa: SIM115 (open for as long as the run)
        self.write(kept)

    def write(self, entries: list[dict[str, Any]]) -> None:
        """Adds lines; they reach the file before this returns."""
        self._file.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
        self._file.flush()

    def close(self) -> None:
        """Nothing is written after this."""
        self._file.close()
