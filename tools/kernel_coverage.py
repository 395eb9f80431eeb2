"""How many of the library's CUDA kernels the tests launch that passed under a sanitizer.

    python tools/sanitize.py --tool none --kernels launched.json tests
    python tools/sanitize.py --tool memcheck --passed passed.txt tests
    python tools/kernel_coverage.py --launched launched.json --passed memcheck=passed.txt

CUPTI and compute-sanitizer cannot watch one process, so the first run, without a sanitizer, says
which kernels a test launches. All kernels are those that cuobjdump finds in the library; a template
counts as seen with any of its instances. Kernels of vendors' libraries, and those that the step
compiler makes as it runs, are counted apart.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import sanitizer_cover

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Prints a table of templates and writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--launched", type=Path, nargs="+", required=True, help="tests' kernels")
    parser.add_argument("--passed", action="append", default=[], metavar="TOOL=FILE[,FILE]")
    parser.add_argument("--listed", type=Path, help="all kernels, mangled; default: cuobjdump's")
    parser.add_argument("--binary", type=Path, default=ROOT / "vibetensor/libvibetensor.so")
    parser.add_argument("--json", type=Path, help="write the result there")
    args = parser.parse_args()
    mangled = args.listed.read_text(encoding="utf-8") if args.listed else listed(args.binary)
    kernels = {readable(name) for name in re.findall(r"^\s*(?:Function )?(\w+)", mangled, re.M)}
    found_by_tests = sanitizer_cover.read(args.launched)
    launched = {test: each.kernels for test, each in found_by_tests.items()}
    passed = {"any": set(launched)}
    for each in args.passed:
        tool, _, files = each.partition("=")
        texts = [Path(file).read_text(encoding="utf-8") for file in files.split(",")]
        passed[tool] = {name for text in texts for name in text.splitlines()}
    found: dict[str, Any] = {
        "kernels": len(kernels),
        "templates": len(set(map(sanitizer_cover.family, kernels))),
    }
    for tool, tests in passed.items():
        names = frozenset[str]().union(*(launched.get(test, frozenset()) for test in tests))
        own = names & kernels
        found[tool] = {
            "tests": len(tests),
            "tests_without_a_list_of_kernels": len(tests - set(launched)),
            "kernels": len(own),
            "templates": len(set(map(sanitizer_cover.family, own))),
            "other_kernels": dict(
                Counter(map(sanitizer_cover.owner, names - kernels)).most_common()
            ),
            "templates_not_launched": sorted(
                set(map(sanitizer_cover.family, kernels)) - set(map(sanitizer_cover.family, own))
            ),
        }
        print(
            f"{tool}: {len(tests)} tests launch {len(own)} of {len(kernels)} kernels, "
            f"{found[tool]['templates']} of {found['templates']} templates"
        )
    print("\n".join(found[list(passed)[-1]]["templates_not_launched"]))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def listed(library: Path) -> str:
    """The kernels in a library, a mangled name a line."""
    command = ["cuobjdump", "-res-usage", str(library)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "\n".join(re.findall(r"Function (\w+)", text))


def readable(name: str) -> str:
    """A mangled name as the profiler shows it."""
    library = ctypes.CDLL("libstdc++.so.6")
    library.__cxa_demangle.restype = ctypes.c_void_p
    status = ctypes.c_int()
    text = library.__cxa_demangle(name.encode(), None, None, ctypes.byref(status))
    if status.value or not text:
        return name
    result = ctypes.string_at(text).decode()
    ctypes.CDLL(None).free(ctypes.c_void_p(text))
    return result


if __name__ == "__main__":
    main()
