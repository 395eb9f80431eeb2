"""Rules that no compiler checks: file sizes, no trace of a build machine, matching versions."""

from __future__ import annotations

import re

import sources

CODE = (".py", ".pyi", ".cpp", ".h", ".cu", ".cuh", ".yaml", ".cmake", ".sh", ".map")
BINARY = (".png", ".gif", ".npz", ".safetensors", ".gz")


def test_files_stay_under_500_lines() -> None:
    long = [
        f"{path}: {lines}"
        for path in sources.with_suffix(*CODE)
        if (lines := sources.text(path).count("\n")) >= 500
    ]
    assert not long, "two ideas live in one file:\n" + "\n".join(long)


def test_sources_say_what_they_own() -> None:
    silent = [str(path) for path in sources.native() if not sources.text(path).startswith("//")]
    assert not silent, "no comment on top:\n" + "\n".join(silent)


def test_no_path_of_a_build_machine() -> None:
    machine = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work|workspace)/[\w.-]+")
    found = [
        f"{path}: {match[0]}"
        for path in sources.files()
        if path.suffix not in BINARY
        for match in machine.finditer(sources.text(path))
    ]
    assert not found, "\n".join(found)


def test_nothing_built_is_committed() -> None:
    built = [str(p) for p in sources.files() if p.suffix in (".so", ".o", ".a", ".whl", ".pyc")]
    assert not built, "\n".join(built)


def test_versions_agree() -> None:
    versions = {
        "CMakeLists.txt": re.search(
            r"project\(vibetensor VERSION (\S+)", sources.text(sources.ROOT / "CMakeLists.txt")
        ),
        "pyproject.toml": re.search(
            r'^version = "([^"]+)"', sources.text(sources.ROOT / "pyproject.toml"), re.M
        ),
    }
    found = {name: match[1] for name, match in versions.items() if match}
    assert len(found) == 2 and len(set(found.values())) == 1, found


def test_test_files_have_names_of_their_own() -> None:
    # pytest imports them by their last name: two of one name cannot run together.
    names = [path.name for path in sources.with_suffix(".py") if path.name.startswith("test_")]
    double = sorted({name for name in names if names.count(name) > 1})
    assert not double, f"several test files are called {', '.join(double)}"


def test_environment_switches_live_in_one_file() -> None:
    read = [
        str(path)
        for path in sources.native()
        if path.name != "env.cpp" and re.search(r"\bgetenv\(", sources.text(path))
    ]
    assert not read, "read the environment in csrc/base/env.cpp:\n" + "\n".join(read)
