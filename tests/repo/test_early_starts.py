"""Kernels that may start before the one before them has ended wait for it first of all.

One that did not would read memory that is still being written, now and then.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2] / "csrc" / "kernels" / "cuda"
KERNEL = re.compile(r"__global__\s+void(?:\s+__launch_bounds__\([^;{]*?\))?\s+(\w+)\(")


def kernels(path: Path) -> dict[str, str]:
    """The name of each kernel of a file, and what its body begins with."""
    text, found = path.read_text(), {}
    for match in KERNEL.finditer(text):
        depth, at = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        found[match[1]] = text[text.index("{", at) + 1 :].lstrip()[:40]
    return found


def test_kernels_that_start_early_wait_first() -> None:
    everywhere: dict[str, dict[str, str]] = {}
    for path in sorted([*ROOT.rglob("*.cu"), *ROOT.rglob("*.h")]):
        everywhere[str(path)] = kernels(path)
    early = 0
    for name in everywhere:
        text = Path(name).read_text()
        wanted = set(re.findall(r"launch_early\(\s*&(\w+)", text))
        # Where the kernel is a variable, it may be any of the file or of what it includes.
        if re.search(r"kEarly>\(\s*\w|launch_early\(\s*kernel\b", text):
            places = [name, *(str(ROOT / i) for i in re.findall(r'"kernels/cuda/(\S+)"', text))]
            wanted |= {kernel for place in places for kernel in everywhere.get(place, {})}
        if name.endswith("launch.h"):
            continue
        for kernel in wanted:
            bodies = [own[kernel] for own in everywhere.values() if kernel in own]
            assert bodies, f"{name}: no kernel {kernel}"
            own = everywhere[name].get(kernel)
            for body in [own] if own is not None else bodies:
                assert body.startswith("await_earlier();"), f"{name}: {kernel} does not wait"
            early += 1
    assert early > 30
