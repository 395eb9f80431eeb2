"""The measured tables: reading, merging, and what an engine makes of a row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vibetensor.torch as torch
from vibetensor import _C, cli, collectives, fabric, tuning
from vibetensor.cli import tune


def row(up_to: int, algorithm: str, gpu: str = "Some GPU", ranks: int = 2) -> tuning.Row:
    return {
        "gpu": gpu,
        "ranks": ranks,
        "devices": 1,
        "kind": "all_reduce",
        "item_bytes": 0,
        "place": "any",
        "up_to": up_to,
        "algorithm": algorithm,
        "blocks": 0,
        "threads": 0,
        "chunk_bytes": 0,
    }


def test_the_packaged_table_can_be_read() -> None:
    for each in tuning.read(tuning.packaged_file()):
        assert each["up_to"] > 0
        assert each["algorithm"] != "nccl"


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    rows = [row(1024, "packets"), row(2**62, "push")]
    file = tmp_path / "folder" / "table.json"
    tuning.write(file, rows)
    assert tuning.read(file) == rows


def test_rows_of_the_user_go_first() -> None:
    mine = [row(2048, "push")]
    theirs = [row(1024, "packets"), row(1024, "packets", ranks=4), row(2**20, "two_shot")]
    assert tuning.merged(mine, theirs) == [mine[0], *theirs[1:]]


def test_a_table_says_nothing_of_sizes_that_were_not_measured() -> None:
    mesh = fabric.parse_devices("cpu:2")
    ways = [(4096, tune.Way("packets")), (65536, tune.Way("lines")), (1 << 20, tune.Way("lines"))]
    rows = tune._rows("Some GPU", mesh, ways)
    assert [(row["up_to"], row["algorithm"]) for row in rows] == [
        (16384, "packets"),
        (2 << 20, "lines"),
    ]
    known = [row(1024, "one_shot"), row(8192, "two_shot"), row(512, "push", gpu="Another")]
    like = row(16384, "packets")
    assert tune._below(4096, like, known) == known[:1]


@pytest.mark.parametrize(
    "text", ['{"version": 7, "rows": []}', "[]", '{"version": 1, "rows": [{}]}']
)
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="tuning: "):
        tuning.read(file)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ranks": "two"},
        {"up_to": -1},
        {"up_to": 2**70},
        {"gpu": ["a", "list"]},
        {"gpu": None},
        {"threads": 100},
        {"threads": 2048},
        {"blocks": -1},
        {"place": "beside"},
        {"kind": "shuffle"},
        {"algorithm": "magic"},
    ],
)
def test_a_bad_table_of_the_user_is_left_aside(
    wrong: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {**row(1024, "packets"), **wrong}
    with pytest.raises((ValueError, TypeError)):
        _C.set_measured([bad])
    file = tmp_path / "collectives.json"
    file.write_text(json.dumps({"version": 1, "rows": [bad]}))
    monkeypatch.setattr(tuning, "user_file", lambda: file)
    with pytest.warns(RuntimeWarning, match="collectives.json is left aside"):
        tuning.load()


def test_tuning_wants_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "allreduce", "--devices", "cpu:2", "--tune"]) == 1
    assert "two ranks and more on GPUs" in capsys.readouterr().err


def test_copy_engines_are_tried_with_pieces_up_to_a_share() -> None:
    largest = {}
    for ranks in (2, 4):
        ways = [way for way in tune.ways(256 << 20, ranks) if way.algorithm == "copy_engine"]
        assert len(ways) == len(set(ways)) and {way.blocks for way in ways} == {0, 64, 96, 264}
        largest[ranks] = max(way.chunk_bytes for way in ways)
    assert largest == {2: 128 << 20, 4: 64 << 20}
    assert not any(way.algorithm == "copy_engine" for way in tune.ways(1 << 20, 2))


@pytest.mark.cuda
def test_the_engine_follows_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu = torch.cuda.get_device_name("cuda:0")
    file = tmp_path / "vibetensor" / "collectives.json"
    tuning.write(file, [row(4096, "one_shot", gpu), row(2**62, "two_shot", gpu)])
    monkeypatch.setattr(tuning, "user_file", lambda: file)
    tuning.load()
    try:
        comm = collectives.Communicator(fabric.mesh("cuda:0", ranks=2))
        for count, wanted in ((16, "one_shot"), (1024, "one_shot"), (4096, "two_shot")):
            comm.all_reduce([torch.ones(count, device="cuda:0") for _ in range(2)])
            event = next(e for e in reversed(fabric.events(8)) if e.kind == "collective")
            assert event.how == wanted
    finally:
        monkeypatch.undo()
        tuning.load()


@pytest.mark.cuda
@pytest.mark.unsanitized("times kernels")
def test_tuning_writes_a_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "collectives.json"
    monkeypatch.setattr(tuning, "user_file", lambda: file)
    result = tmp_path / "result.json"
    arguments = "bench allreduce --devices cuda:0 --ranks 2 -b 1K -e 64K -f 64 --tune --json"
    assert cli.main([*arguments.split(), str(result)]) == 0
    rows = tuning.read(file)
    assert rows[-1]["up_to"] == 2 * 65536
    assert json.loads(file.read_text())["version"] == 1
    measured = json.loads(result.read_text())
    assert measured["table"] == rows
    assert {row["bytes"] for row in measured["rows"]} == {1024, 65536}
