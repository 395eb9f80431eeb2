"""What docs/ shows works: Python blocks run, table entries are understood, commands exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPS = ROOT / "csrc" / "ops"
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(language: str) -> list[tuple[str, str]]:
    """Each block of a language with the name that its test gets."""
    found = []
    for page in PAGES:
        texts = re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)
        found += [(f"{page.stem}-{i}", text) for i, text in enumerate(texts)]
    return found


def pages() -> dict[str, str]:
    """The Python of each page: its blocks, one after the other, as a reader types them."""
    found: dict[str, str] = {}
    for name, text in blocks("python"):
        page = name.rpartition("-")[0]
        found[page] = found.get(page, "") + text + "\n"
    return found


@pytest.mark.parametrize("page", pages())
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    # In a folder of its own: what a page writes must not meet what it wrote in an earlier run.
    ran = subprocess.run(
        [sys.executable, "-c", pages()[page]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "VIBETENSOR_CPU_DEVICES": "4"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    "block", [b for _, b in blocks("yaml")], ids=[n for n, _ in blocks("yaml")]
)
def test_table_entry_generates(block: str, tmp_path: Path) -> None:
    table = shutil.copytree(OPS / "table", tmp_path / "table")
    (table / "zz_docs.yaml").write_text(block)
    out = tmp_path / "out"
    command = [sys.executable, "-B", "-m", "codegen", "--table", str(table), "--out", str(out)]
    subprocess.run(command, cwd=OPS, check=True)
    name = re.search(r"op: \"?(\w+)\(", block)
    assert name is not None
    assert f" {name[1]}(const Tensor& self" in (out / "ops" / "ops.h").read_text()
    assert f"`{name[1]}(" in (out / "docs" / "operators.md").read_text()


@pytest.mark.parametrize("line", [line for _, block in blocks("sh") for line in block.splitlines()])
def test_command_runs(line: str) -> None:
    words = line.split()
    assert words[0] == "python", f"teach this test to run {line!r}"
    ran = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
