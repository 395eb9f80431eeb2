"""Checkpoints of a run: one safetensors file each, whole or not there at all, of which the newest
few are kept.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from pathlib import Path
from typing import Any

from vibetensor import io
from vibetensor.io import CheckpointError

__all__ = ["CheckpointError", "CheckpointFolder"]

_NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")
_TEMPORARY = ".checkpoint-*.tmp"


class CheckpointFolder:
    """A folder with the checkpoints of one run, `checkpoint-<step>.safetensors`.

    Args:
        path: made if it is not there.
        keep: how many checkpoints stay; older ones are removed after a new one is safe on disk.

    Raises:
        ValueError: keep is not positive.
        OSError: the folder cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str], keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1 checkpoint, got {keep}")
        self.path = Path(path)
        self.keep = keep
        self.path.mkdir(parents=True, exist_ok=True)

    def paths(self) -> list[Path]:
        """The checkpoints that are there, oldest first."""
        found = [(int(match[1]), entry) for entry in self.path.iterdir()
                 if (match := _NAME.fullmatch(entry.name))]  # fmt: skip
        return [entry for _, entry in sorted(found)]

    def check_unused(self) -> None:
        """For a run that starts anew.

        Raises:
            ValueError: an earlier run has left checkpoints here.
        """
        if there := self.paths():
            raise ValueError(
                f"fit: {self.path} has checkpoints of an earlier run, the newest {there[-1].name}; "
                "resume it, or take another folder"
            )

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Writes a checkpoint under a temporary name, syncs it to disk, and only then renames it.

        Raises:
            OSError: it cannot be written; the checkpoints that were there are untouched.
        """
        for leftover in self.path.glob(_TEMPORARY):  # of a process that was killed
            with contextlib.suppress(FileNotFoundError):
                leftover.unlink()
        target = self.path / f"checkpoint-{step:08d}.safetensors"
        io.save(state, target)
        for old in self.paths()[: -self.keep]:
            with contextlib.suppress(FileNotFoundError):
                old.unlink()
        return target

    def load_newest(self) -> tuple[Path, Any] | None:
        """The newest checkpoint, or None if there is none.

        One that something has damaged since it was written is passed over with a warning.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
        """
        failure: CheckpointError | None = None
        for path in reversed(self.paths()):
            try:
                return path, load(path)
            except CheckpointError as error:
                warnings.warn(f"{error}; trying the checkpoint before it", stacklevel=2)
                failure = error
        if failure is not None:
            raise failure
        return None


def load(path: str | os.PathLike[str]) -> Any:
    """The state in one checkpoint, its tensors on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is no checkpoint, or is cut short.
    """
    return io.load(path, map_location="cpu")
