"""Where pip has put NVIDIA's libraries: nvidia/*/lib in the folders that Python imports from."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def folders() -> list[str]:
    """The folders that exist; none without such packages."""
    spec = importlib.util.find_spec("nvidia")
    roots = spec.submodule_search_locations if spec is not None else None
    return [str(path) for root in roots or () for path in sorted(Path(root).glob("*/lib"))]
