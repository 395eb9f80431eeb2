"""What README.md tells people to type exists."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys

import pytest
import sources

BLOCKS = re.findall(
    r"```(?:sh|bash|console)\n(.*?)```", sources.text(sources.ROOT / "README.md"), re.S
)
LINES = [line.strip().removeprefix("$ ") for block in BLOCKS for line in block.splitlines()]
TARGETS = sorted({line.split()[1] for line in LINES if re.match(r"make \w", line)})
SUBCOMMANDS = sorted({line.split()[1] for line in LINES if re.match(r"vibetensor \w", line)})


@pytest.mark.parametrize("target", TARGETS)
def test_make_target_exists(target: str) -> None:
    makefile = sources.text(sources.ROOT / "Makefile")
    assert re.search(rf"^{re.escape(target)}:", makefile, re.M)


def test_the_two_commands_are_in_the_readme() -> None:
    assert {"demo", "test"} <= set(TARGETS)


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_subcommand_exists(subcommand: str) -> None:
    code = "from vibetensor.cli import main; main()"
    command = [sys.executable, "-c", code, subcommand, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=sources.ROOT, timeout=60)
    assert shown.returncode == 0, shown.stderr
    assert "usage" in shown.stdout.lower()


def test_linked_files_exist() -> None:
    for document in ("README.md", "ARCHITECTURE.md"):
        links = re.findall(r"\]\(([^)#]+)\)", sources.text(sources.ROOT / document))
        missing = [x for x in links if "://" not in x and not (sources.ROOT / x).exists()]
        assert not missing, f"{document} links to {missing}"


def test_it_leads_to_every_page_of_docs() -> None:
    readme = sources.text(sources.ROOT / "README.md")
    pages = [f"docs/{path.name}" for path in sources.with_suffix(".md", under=("docs",))]
    assert pages and not [page for page in pages if f"({page})" not in readme]


def test_every_result_says_what_it_shows() -> None:
    page = sources.text(sources.ROOT / "benchmarks" / "results" / "README.md")
    told = re.findall(r"`([\w*.-]+\.(?:jsonl?|json\.gz|png|xml))`", page)
    results = [
        path.name
        for path in sources.files()
        if path.parts[:2] == ("benchmarks", "results") and path.name != "README.md"
    ]
    silent = [name for name in results if not any(fnmatch.fnmatch(name, each) for each in told)]
    assert not silent, f"benchmarks/results/README.md does not name {silent}"
