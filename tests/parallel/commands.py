"""The command line in processes of its own, so that they can be killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def train(*args: str | Path, **options: object) -> subprocess.Popen[str]:
    """Starts `vibetensor train ...`."""
    program = "import sys; from vibetensor.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", program, "train", *map(str, args)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Waits for success; what it printed."""
    out, err = process.communicate(timeout=110)
    assert process.returncode == 0, err
    return out
