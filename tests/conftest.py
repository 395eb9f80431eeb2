"""Shared by all tests: skips what is marked `cuda`, with the reason, where GPUs are missing."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [(item, mark) for item in items if (mark := item.get_closest_marker("cuda"))]
    if not marked:
        return
    # Imported here, because the tests of the repository itself need no build.
    from vibetensor import cuda

    present = cuda.device_count()
    for item, mark in marked:
        wanted = mark.kwargs.get("devices", 1)
        if present < wanted:
            reason = f"needs {wanted} GPU(s), this machine has {present}"
            item.add_marker(pytest.mark.skip(reason=reason))
