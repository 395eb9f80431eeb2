"""The short form of the exactness run; `python tests/collectives/exactness.py` is the long one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import exactness
import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import collectives, fabric
from vibetensor.cli.collective_kinds import KINDS


@pytest.mark.parametrize(
    ("devices", "cases"), [("cpu", 2000), pytest.param("cuda:0", 200, marks=pytest.mark.cuda)]
)
def test_nothing_is_wrong(
    devices: str,
    cases: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "result.json"
    arguments = ["--devices", devices, "--ranks", "2,3", "--cases", str(cases), "--large", "0"]
    arguments += ["--most", "5000", "--seconds", "600"]
    monkeypatch.setattr(sys, "argv", ["exactness", *arguments, "--json", str(file)])
    assert exactness.main() == 0, capsys.readouterr().out
    found = json.loads(file.read_text())
    assert found["cases"] == cases and found["wrong"] == 0 and not found["faults"]


def test_one_wrong_number_is_counted() -> None:
    vibetensor.set_cpu_devices(16)
    comm = collectives.Communicator(fabric.mesh(["cpu:0", "cpu:1", "cpu:2"]))
    for kind in KINDS.values():
        for dtype in (torch.float32, torch.bfloat16, torch.int8):
            case = exactness.Case(comm, kind, dtype, "sum", 5000, 1, 1, False)
            case.fill()
            case.call()
            assert case.wrong() == 0, case.name()
            case.outputs[1][4321] += 1
            assert case.wrong() == 1, case.name()
