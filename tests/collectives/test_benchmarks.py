"""The benchmarks of collectives at a small size: that they run, and what they report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("all_reduce", "reduce_scatter", "all_gather")


def benchmark(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the benchmark with these arguments."""
    command = [sys.executable, "-m", f"benchmarks.collectives.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("devices", "forms"),
    [
        ("cpu:2", ("eager",)),
        pytest.param("cuda:0", ("eager", "graph"), marks=pytest.mark.cuda),
        pytest.param("cuda:0,1", ("eager", "graph"), marks=pytest.mark.cuda(devices=2)),
    ],
)
def test_every_kind_beside_products(devices: str, forms: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "along.json"
    done = benchmark(
        "along",
        *f"--devices {devices} --ranks 2 --bytes 256K --side 256 --products 2".split(),
        *f"--rounds 2 --share 0.5 --ways auto auto:4 --json {file}".split(),
        *("--kinds", *KINDS, "--forms", *forms),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["rows"]
    assert [json.loads(line) for line in done.stdout.splitlines()] == rows
    assert {(row["kind"], row["form"], row["way"]) for row in rows} == {
        (kind, form, way) for kind in KINDS for form in forms for way in ("auto", "auto:4")
    }
    for row in rows:
        assert row["collectives"] >= 1 and row["algorithm"] != "-"
        assert min(row["products_ms"], row["alone_us"], row["together_ms"]) > 0
        exposed = row["together_ms"] - row["products_ms"]
        assert row["exposed_ms"] == pytest.approx(exposed, abs=2e-3)
        assert (row["slow_down_pct"] is None) == (row["form"] == "graph")


def test_a_wrong_way_is_named() -> None:
    done = benchmark("along", "--devices", "cpu:2", "--side", "16", "--ways", "quick")
    assert done.returncode != 0
    assert "'quick' is no way" in done.stderr


@pytest.mark.parametrize(
    "devices",
    [
        "cpu:2",
        pytest.param("cuda:0", marks=pytest.mark.cuda),
        pytest.param("cuda:0,1", marks=pytest.mark.cuda(devices=2)),
    ],
)
def test_short_collectives(devices: str, tmp_path: Path) -> None:
    file = tmp_path / "small.json"
    arguments = f"--devices {devices} --ranks 2 --bytes 0 1K --calls 3 --json {file}"
    done = benchmark("small", *arguments.split())
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["rows"]
    assert [row["bytes"] for row in rows] == [0, 1024]
    assert all(row["early eager"] > 0 for row in rows)
    assert all(("early 3" in row) == devices.startswith("cuda") for row in rows)


@pytest.mark.parametrize(
    ("devices", "forms"),
    [
        ("cpu:2", ("eager",)),
        pytest.param("cuda:0,1", ("graph", "eager"), marks=pytest.mark.cuda(devices=2)),
    ],
)
def test_every_kind_by_size(devices: str, forms: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "kinds.json"
    done = benchmark(
        "kinds", *f"--devices {devices} --largest 4K --factor 32 --json {file}".split()
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 9 * 3 * len(forms)
    for row in rows:
        parts = [row[name] for name in ("out of place", "in place") if name in row]
        assert all(part["wrong"] == 0 and part["time_us"] > 0 for part in parts)
        assert all((part["nccl_us"] is None) == devices.startswith("cpu") for part in parts)
    assert done.stdout.splitlines()[-1].startswith(f"{len(rows)} of {len(rows)} rows, 0 wrong")
