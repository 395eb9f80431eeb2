"""What the build expects of the generator: it writes what it lists, and nothing twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import sources

OPS = sources.ROOT / "csrc" / "ops"


def generate(out: Path, *options: str) -> list[str]:
    command = [sys.executable, "-B", "-m", "codegen", "--table", str(OPS / "table")]
    command += ["--out", str(out), *options]
    run = subprocess.run(command, cwd=OPS, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_it_writes_what_it_lists(tmp_path: Path) -> None:
    listed = generate(tmp_path, "--list")
    assert listed and not list(tmp_path.iterdir())
    generate(tmp_path)
    written = [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()]
    assert sorted(written) == sorted(listed)


def test_unchanged_files_are_left_alone(tmp_path: Path) -> None:
    """Otherwise a change of one operator would compile every generated file again."""
    generate(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    generate(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in before}
