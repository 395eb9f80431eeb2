"""The examples through the command line: they learn, and say clearly what they cannot do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def vibetensor(*args: str | Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; from vibetensor.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=110,
    )


def train(*args: str | Path) -> dict[str, Any]:
    done = vibetensor("train", *args, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("model", ["mlp", "vit"])
def test_digits_are_told_apart(model: str, tmp_path: Path) -> None:
    result = train("digits", "--model", model, "--devices", "cpu:2", "--out", tmp_path)
    assert result["test_accuracy"] >= 0.97
    for name in ("checkpoint", "metrics", "plot"):
        assert Path(result[name]).is_file()


def test_chargpt_learns_a_text(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 200)
    result = train(
        "chargpt", "--text", text, "--devices", "cpu:2", "--out", tmp_path / "run",
        "--steps", "150", "--context", "32", "--width", "64", "--layers", "2", "--batch", "16",
        "--sample", "60",
    )  # fmt: skip
    assert result["loss"] < 0.5
    assert len(result["sample"]) == 61
    assert "quick" in result["sample"] or "lazy" in result["sample"]
    before = (tmp_path / "run" / "run.json").read_bytes()
    again = vibetensor("train", "chargpt", "--text", text, "--out", tmp_path / "run")
    assert again.returncode == 1 and "has checkpoints of an earlier run" in again.stderr
    assert (tmp_path / "run" / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"good start \xff\xfe bad", "not UTF-8 text: byte 0xff at offset 11"),
        (b"short", "the text has 5 characters, too few for windows of 128"),
    ],
)
def test_texts_that_cannot_be_learned(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    done = vibetensor("train", "chargpt", "--text", path, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.startswith("vibetensor: ") and message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--text", "no/such/file"], "No such file"),
        (["--devices", "gpu"], "devices: expected auto, all, cpu:N"),
        (["--devices", "cuda:9"], "cuda:9"),
        (["--batch", "3", "--devices", "cpu:4"], "3 samples cannot be split over 4 ranks"),
        (["--width", "30"], "width 30 is not a multiple of 4 heads"),
        (["--ranks-per-device", "0"], "--ranks-per-device must be at least 1"),
        (["--resume"], "--resume needs the --out"),
        (["--resume", "pyproject.toml"], "not a checkpoint"),
        (["--resume", "no/such/checkpoint"], "there is no checkpoint no/such/checkpoint"),
    ],
)
def test_arguments_that_cannot_be(args: list[str], message: str, tmp_path: Path) -> None:
    out = [] if args == ["--resume"] else ["--out", tmp_path]
    done = vibetensor("train", "chargpt", "--steps", "1", *args, *out)
    assert done.returncode == 1, done.stdout
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_the_scripts_run(script: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), "--quick"],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "loss" in done.stdout
