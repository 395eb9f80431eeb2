"""`vibetensor info` shows the build, the devices and the switches."""

from __future__ import annotations

import json

import pytest

import vibetensor
from vibetensor import _C
from vibetensor.cli import main


def test_info_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert vibetensor.__version__ in shown
    for name, _, _ in _C.env_switches():
        assert name in shown


def test_info_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == vibetensor.__version__
    assert found["cpu"]["devices"] == _C.device_count("cpu") and found["cpu"]["threads"] >= 1
    assert len(found["gpus"]) == _C.device_count("cuda")
    assert 1 <= len(found["switches"]) <= 10
    assert {"cuBLASLt", "NCCL"} <= {library["name"] for library in found["libraries"]}


def test_wrong_commands_exit_with_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["unknown"], ["info", "--wrong"]):
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 2 and "usage" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == f"vibetensor {vibetensor.__version__}"


def test_help_shows_what_is_taken_where_nothing_is_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for argv, words in (
        (["train", "chargpt"], ["--steps", "(default: ", "cuda:0,1"]),
        (["bench", "all_reduce"], ["--minbytes", "(default: 256M)", "--devices cpu:4"]),
        (["demo"], ["1000 of a smaller model"]),
    ):
        with pytest.raises(SystemExit) as caught:
            main([*argv, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        assert caught.value.code == 0 and "None" not in shown
        for word in words:
            assert word in shown
