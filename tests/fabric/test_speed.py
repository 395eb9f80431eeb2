"""Measured bandwidth and latency: the matrices, their tables, JSON and picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vibetensor
from vibetensor import _C, cli, fabric
from vibetensor.cli import topo_speed
from vibetensor.fabric.speed import Speeds


def test_a_pair_of_cpu_devices() -> None:
    vibetensor.set_cpu_devices(2)
    speed = _C.measure_pair("cpu:0", "cpu:1")
    assert speed is not None and speed["store"] is None
    assert 1e8 < speed["copy"] < 1e13
    assert 1e8 < speed["copy_both"] < 1e13
    assert 1e-10 < speed["latency"] < 1e-4


def test_the_command_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "speed.png"
    assert cli.main(["topo", "--measure", "--json", "--plot", str(picture)]) == 0
    found = json.loads(capsys.readouterr().out)
    count = len(found["devices"])
    for name in ("copy_gbps", "copy_both_gbps", "store_gbps", "store_both_gbps", "latency_ns"):
        assert [len(row) for row in found["measured"][name]] == [count] * count
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_was_not_measured_is_a_dash() -> None:
    half = [[1.0, None], [None, 2.25]]
    none: list[list[float | None]] = [[None, None], [None, None]]
    speeds = Speeds(["cuda:0", "cuda:1"], half, half, none, none, half)
    tables = topo_speed.tables(speeds)
    assert [title.split(",")[0] for title, _ in tables] == [
        "copy engine",
        "copy engines",
        "latency of a load",
    ]
    assert tables[0][1] == [
        ["", "cuda:0", "cuda:1"],
        ["cuda:0", "1.0", "-"],
        ["cuda:1", "-", "2.2"],
    ]


def test_a_device_that_does_not_exist() -> None:
    with pytest.raises(RuntimeError, match="does not exist"):
        _C.measure_pair("cpu:63", "cpu:0")


@pytest.mark.cuda
@pytest.mark.unsanitized("asserts speeds")
def test_a_gpu_and_itself() -> None:
    speed = _C.measure_pair("cuda:0", "cuda:0")
    assert speed is not None and speed["store"] is not None
    assert speed["copy"] > 1e10 and speed["copy_both"] > 1e10 and speed["store"] > 1e10
    assert speed["store_both"] is not None and speed["store_both"] > 1e10
    assert 1e-8 < speed["latency"] < 1e-5
    assert _C.measure_pair("cpu:0", "cuda:0") is None


@pytest.mark.cuda(devices=2)
@pytest.mark.unsanitized("asserts speeds")
def test_two_gpus() -> None:
    speeds = fabric.measure(fabric.topology())
    if not fabric.topology().pairs[0][1].usable:
        assert speeds.copy_gbps[0][1] is None
        return
    one_way, both = speeds.copy_gbps[0][1], speeds.copy_both_gbps[0][1]
    far, near = speeds.latency_ns[0][1], speeds.latency_ns[0][0]
    assert one_way is not None and both is not None and both > one_way
    assert far is not None and near is not None and far > near
