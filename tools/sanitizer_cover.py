"""Chooses few, short tests that launch every CUDA kernel of ours that the suite launches.

tools/sanitize.py --tool none --kernels FILE writes which test launched what, and for how long it
ran; --cover FILE then runs what is chosen here. Greedy: always the test with the most kernels that
no other has launched yet, by what it will cost (Johnson 1974: within a logarithm of the least), and
then without those that the others have made needless.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# What a test costs under a sanitizer, in seconds: to begin it, for each that it runs without one,
# and for each kernel of a library, which is patched like ours and proves nothing of ours. Fitted to
# 729 tests under memcheck (2.2 for each second) and 168 under racecheck (2.9; 0.7 a kernel).
_START, _SLOWER, _FOREIGN = 0.2, 3.0, 0.5
# Tests from here on begin first, or the end would wait for them.
LONG = 15.0


@dataclass(frozen=True)
class Launched:
    """What one test launches."""

    seconds: float  # without a sanitizer
    kernels: frozenset[str]
    shared: frozenset[str] = frozenset()  # those of them that had shared memory

    @property
    def own(self) -> frozenset[str]:
        """Without those of PyTorch and of libraries."""
        return frozenset(name for name in self.kernels if owner(name) == "ours")

    @property
    def cost(self) -> float:
        """Seconds that it is expected to take under a sanitizer, behind others like it."""
        foreign = len(self.kernels) - len(self.own)
        return _START + _SLOWER * self.seconds + _FOREIGN * foreign


def owner(kernel: str) -> str:
    """Whose kernel it is, by its readable name: ours, PyTorch's or a library's.

    Ours are those of the library and those that the step compiler makes as it runs.
    """
    if re.search(r"\bvt::|_ZNK?2vt", kernel) or kernel == "fused":
        return "ours"
    if re.search(r"\b(at|c10|caffe2)::|triton", kernel):
        return "PyTorch's"
    return "a library's"


def family(name: str) -> str:
    """The template's name: without the result's type, the arguments and the parameters."""
    if name.startswith("_ZN"):  # longer than what can be made readable
        rest, parts = name[3:], []
        while found := re.match(r"\d+", rest):
            length, rest = int(found[0]), rest[found.end() :]
            parts.append(rest[:length])
            rest = rest[length:]
        return "::".join(parts)
    plain = name.replace("(anonymous namespace)", "{anonymous}").removeprefix("void ")
    return re.split(r"[<(]", plain, maxsplit=1)[0]


def with_shared_memory(launched: dict[str, Launched]) -> dict[str, Launched]:
    """What racecheck has to see: of our kernels those that use shared memory, all it looks at."""
    return {
        test: replace(each, kernels=each.kernels - each.own | each.shared)
        for test, each in launched.items()
    }


def write(file: Path, launched: dict[str, Launched]) -> None:
    """Each kernel's name once, as they are long."""
    numbers: dict[str, int] = {}
    for each in launched.values():
        for name in sorted(each.kernels):
            numbers.setdefault(name, len(numbers))
    tests = {
        test: {
            "seconds": round(t.seconds, 3),
            "kernels": sorted(numbers[k] for k in t.kernels),
            "shared": sorted(numbers[k] for k in t.shared),
        }
        for test, t in launched.items()
    }
    text = json.dumps({"kernels": list(numbers), "tests": tests})
    file.write_text(text + "\n", encoding="utf-8")


def read(files: Iterable[Path]) -> dict[str, Launched]:
    """What every test launched, in any of the runs that wrote these files."""
    found: dict[str, Launched] = {}
    for file in files:
        whole = json.loads(file.read_text(encoding="utf-8"))
        for test, row in whole["tests"].items():
            kernels = frozenset(whole["kernels"][number] for number in row["kernels"])
            shared = frozenset(whole["kernels"][number] for number in row["shared"])
            if test in found:
                kernels |= found[test].kernels
                shared |= found[test].shared
            found[test] = Launched(row["seconds"], kernels, shared)
    return found


def choose(
    launched: dict[str, Launched],
    skip: Iterable[str] = (),
    seen: Mapping[str, float] | None = None,
) -> list[str]:
    """Tests that together launch all of our kernels that any test launches: long ones, the best.

    Kernels that only tests in `skip` launch are left out. `seen` has the seconds that tests took
    under the same sanitizer, which are better than those expected.
    """
    left_out = set(skip)
    kept = {test: each for test, each in launched.items() if test not in left_out}
    missing: dict[str, set[str]] = {test: set(each.own) for test, each in kept.items()}
    costs = {test: each.cost for test, each in kept.items()}
    costs |= {test: _START + took for test, took in (seen or {}).items()}
    users: dict[str, list[str]] = {}
    for test, kernels in missing.items():
        for kernel in kernels:
            users.setdefault(kernel, []).append(test)
    chosen = []
    while left := [test for test, kernels in missing.items() if kernels]:
        best = max(left, key=lambda test: (len(missing[test]) / costs[test], test))
        chosen.append(best)
        for kernel in missing[best].copy():
            for test in users[kernel]:
                missing[test].discard(kernel)
    times = Counter(kernel for test in chosen for kernel in kept[test].own)
    for test in sorted(chosen, key=lambda test: -costs[test]):
        if all(times[kernel] > 1 for kernel in kept[test].own):
            chosen.remove(test)
            times.subtract(kept[test].own)
    return sorted(chosen, key=lambda test: costs[test] < LONG)


def covered(launched: dict[str, Launched], passed: Iterable[str]) -> dict[str, Any]:
    """How many of our kernels that the suite launches are launched by the tests that passed.

    `templates` are kernels without their parameters, launched in any form; `not_covered` has the
    number of kernels that are left by template.
    """
    every = frozenset[str]().union(*(each.own for each in launched.values()))
    by_passed = (launched[test].own for test in passed if test in launched)
    seen = frozenset[str]().union(*by_passed)
    return {
        "launched_by_the_suite": len(every),
        "covered": len(seen),
        "share": round(len(seen) / len(every), 4) if every else None,
        "templates_launched_by_the_suite": len(set(map(family, every))),
        "templates": len(set(map(family, seen))),
        "not_covered": dict(Counter(map(family, every - seen)).most_common()),
    }
