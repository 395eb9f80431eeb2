"""Where a measurement comes from: hardware, driver, CUDA, versions, commit and date."""

from __future__ import annotations

import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


def provenance() -> dict[str, Any]:
    """Plain values for the head of a committed result."""
    from vibetensor.cli.info import collect
    from vibetensor.fabric.nvml import Nvml

    found = collect()
    with Nvml([]) as nvml:
        driver, cuda = nvml.driver_version(), nvml.cuda_version()
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "version": found["version"],
        "hardware": {"cpu": found["cpu"], "gpus": found["gpus"]},
        "driver": driver,
        "cuda": cuda,
        "build": found["build"],
        "python": found["python"],
    }


def commit() -> str | None:
    """The commit of the checkout that this package runs from, "-dirty" if changed, or None."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--match="],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
