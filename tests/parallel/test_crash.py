"""Runs that are killed, stopped or starved at any moment, and go on as if nothing had happened."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import time
import warnings
from pathlib import Path

import commands
import pytest

from vibetensor.parallel import CheckpointFolder, metrics

STEPS = 3000
RUN = ("digits", "--devices", "cpu:2", "--steps", STEPS, "--checkpoint-every", 10, "--batch", 64)


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in metrics.read(folder / "metrics.jsonl")]


def last_step(folder: Path) -> int:
    return max((entry["step"] for entry in metrics.read(folder / "metrics.jsonl")), default=0)


def wait_for_steps(folder: Path, process: subprocess.Popen[str], above: int) -> None:
    deadline = time.monotonic() + 60
    while last_step(folder) <= above:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no step within a minute"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    commands.finish(commands.train(*RUN, "--out", folder))
    return folder


def assert_same_run(folder: Path, other: Path) -> None:
    assert losses(folder) == losses(other)
    name = f"checkpoint-{STEPS:08d}.safetensors"
    assert (folder / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_ten_random_moments(undisturbed: Path, tmp_path: Path) -> None:
    moments = random.Random(5)
    for _ in range(10):
        before = last_step(tmp_path)
        process = commands.train(*RUN, "--out", tmp_path, "--resume")
        # Progress is made between two kills, wherever they strike.
        wait_for_steps(tmp_path, process, max(before - 10, 0))
        time.sleep(moments.uniform(0, 0.25))
        process.kill()
        process.communicate()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the newest one loads, not only some older one
            CheckpointFolder(tmp_path).load_newest()
    assert last_step(tmp_path) < STEPS, "the last kill came too late to tell anything"
    commands.finish(commands.train(*RUN, "--out", tmp_path, "--resume"))
    assert_same_run(tmp_path, undisturbed)
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_leaves(
    undisturbed: Path, tmp_path: Path, number: int, code: int
) -> None:
    process = commands.train(*RUN, "--out", tmp_path, "--checkpoint-every", 100_000)
    wait_for_steps(tmp_path, process, 0)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "saved" in out and "Traceback" not in err
    stopped = last_step(tmp_path)
    assert [path.name for path in CheckpointFolder(tmp_path).paths()] == [
        f"checkpoint-{stopped:08d}.safetensors"
    ]
    result = json.loads(
        commands.finish(commands.train(*RUN, "--out", tmp_path, "--resume", "--json"))
    )
    assert result["new_steps"] == STEPS - stopped
    assert_same_run(tmp_path, undisturbed)


def test_a_full_disk_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"value": 1})

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match=r"no space left.*what was there before is intact"):
        folder.save(2, {"value": 2})
    monkeypatch.undo()
    path, state = folder.load_newest() or (None, None)
    assert path == tmp_path / "checkpoint-00000001.safetensors" and state == {"value": 1}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name]


def test_a_limit_on_file_size_ends_the_run_with_one_line(tmp_path: Path) -> None:
    # 64 KiB: less than a checkpoint. What a quota or a full disk does to a real run.
    import resource

    process = commands.train(
        *RUN, "--out", tmp_path,
        preexec_fn=lambda: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)),
        ),
    )  # fmt: skip
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.strip().splitlines()[-1].startswith("vibetensor: ") and "Traceback" not in err
    assert not CheckpointFolder(tmp_path).paths()
