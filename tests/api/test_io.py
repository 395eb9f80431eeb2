"""save and load: what goes in comes out, in a standard file; a failure never costs the old one."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
import safetensors.torch
import torch as pt

import vibetensor.torch as vt
from vibetensor.io import CheckpointError

DTYPES = ["bool", "uint8", "int8", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


def round_trip(obj: Any) -> Any:
    buffer = io.BytesIO()
    vt.save(obj, buffer)
    buffer.seek(0)
    return vt.load(buffer)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (4, 5)])
def test_every_dtype_and_shape(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    tensor = (
        vt.ones(*shape).to(getattr(vt, dtype)) if shape else vt.tensor(1).to(getattr(vt, dtype))
    )
    vt.save({"x": tensor}, tmp_path / "x.safetensors")
    back = vt.load(tmp_path / "x.safetensors")["x"]
    assert back.dtype == tensor.dtype and tuple(back.shape) == shape
    assert back.tolist() == tensor.tolist()
    theirs = safetensors.torch.load_file(tmp_path / "x.safetensors")["x"]
    assert str(theirs.dtype) == f"torch.{dtype}" and theirs.tolist() == tensor.tolist()


def test_structure() -> None:
    obj = {
        "model": {"a.b": vt.ones(2), "empty": {}},
        3: [1, 2.5, None, True, "text", (vt.zeros(1), ())],
        "numbers": {"inf": float("inf"), "big": 2**70},
    }
    back = round_trip(obj)
    assert list(back) == list(obj) and back["numbers"] == obj["numbers"]
    assert back["model"]["a.b"].tolist() == [1.0, 1.0] and back["model"]["empty"] == {}
    assert back[3][:5] == obj[3][:5] and isinstance(back[3][5], tuple) and back[3][5][1] == ()
    assert round_trip(7) == 7 and round_trip(vt.ones(2)).tolist() == [1.0, 1.0]


def test_tensors_that_are_views_or_tied_or_trainable() -> None:
    base = vt.arange(6).reshape(2, 3)
    tied = vt.nn.Parameter(vt.ones(2))
    back = round_trip({"t": base.t(), "row": base[1], "a": tied, "b": tied, "a'": vt.zeros(1)})
    assert back["t"].tolist() == [[0, 3], [1, 4], [2, 5]] and back["row"].tolist() == [3, 4, 5]
    assert back["a"] is back["b"] and back["a"].requires_grad


def test_names_in_the_file_are_those_of_the_state_dict(tmp_path: Path) -> None:
    net = vt.nn.Sequential(vt.nn.Linear(2, 3), vt.nn.LayerNorm(3))
    vt.save(net.state_dict(), tmp_path / "net")
    theirs = safetensors.numpy.load_file(tmp_path / "net")
    assert set(theirs) == set(net.state_dict())
    other = vt.nn.Sequential(vt.nn.Linear(2, 3), vt.nn.LayerNorm(3))
    other.load_state_dict(vt.load(tmp_path / "net"))
    assert other[0].weight.tolist() == net[0].weight.tolist()


def test_files_of_others_are_read(tmp_path: Path) -> None:
    theirs = {"b": pt.arange(3), "a": pt.ones(2, 2, dtype=pt.bfloat16), "none": pt.ones(0)}
    safetensors.torch.save_file(theirs, tmp_path / "theirs", metadata={"format": "pt"})
    ours = vt.load(tmp_path / "theirs")
    assert {key: value.tolist() for key, value in ours.items()} == {
        key: value.tolist() for key, value in theirs.items()
    }


def test_a_whole_training_state(tmp_path: Path) -> None:
    net = vt.nn.Linear(2, 2)
    optimizer = vt.optim.AdamW(net.parameters())
    net(vt.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule = vt.optim.lr_scheduler.StepLR(optimizer, 2)
    vt.save(
        {
            "net": net.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "rng": vt.get_rng_state(),
        },
        tmp_path / "state",
    )
    back = vt.load(tmp_path / "state")
    optimizer.load_state_dict(back["optimizer"])
    schedule.load_state_dict(back["schedule"])
    vt.set_rng_state(back["rng"])
    assert back["optimizer"]["state"][0]["step"].item() == 1


def test_map_location(tmp_path: Path) -> None:
    vt.save({"x": vt.ones(2)}, tmp_path / "x")
    assert vt.load(tmp_path / "x", map_location="cpu")["x"].device.type == "cpu"


@pytest.mark.cuda
def test_tensors_return_to_their_gpu(tmp_path: Path) -> None:
    vt.save({"x": vt.ones(2, device="cuda:0")}, tmp_path / "x")
    assert str(vt.load(tmp_path / "x")["x"].device) == "cuda:0"
    assert vt.load(tmp_path / "x", map_location="cpu")["x"].device.type == "cpu"


def test_a_device_that_is_not_here(tmp_path: Path) -> None:
    path = tmp_path / "x"
    vt.save({"x": vt.ones(2)}, path)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    tree = json.loads(header["__metadata__"]["vibetensor"])
    tree["dict"][0][1]["device"] = "cuda:77"
    header["__metadata__"]["vibetensor"] = json.dumps(tree)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    with pytest.raises(RuntimeError, match=r"saved from cuda:77.*map_location='cpu'"):
        vt.load(path)
    assert vt.load(path, map_location="cpu")["x"].tolist() == [1.0, 1.0]


def test_every_cut_of_a_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "whole"
    vt.save({"x": vt.ones(3), "y": vt.arange(2)}, path)
    raw = path.read_bytes()
    for size in range(len(raw)):
        with pytest.raises(CheckpointError, match=r"cut short|not a checkpoint"):
            vt.load(io.BytesIO(raw[:size]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"PK\x03\x04" + b"\0" * 100,
        b"\x80\x02}q\x00." + b"\0" * 100,
        (20).to_bytes(8, "little") + b"{not json at all....",
        (2).to_bytes(8, "little") + b"[]",
        (52).to_bytes(8, "little") + b'{"x":{"dtype":"F32","shape":[9],"data_offsets":"a"}}',
        (56).to_bytes(8, "little") + b'{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}} ',
        (57).to_bytes(8, "little")
        + b'{"x":{"dtype":"F4 ","shape":[1],"data_offsets":[0,4]}}   1234',
        (56).to_bytes(8, "little")
        + b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}  12345678',
        (59).to_bytes(8, "little")
        + b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"y":1}1234',
    ],
)
def test_what_is_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"file\.bin"):
        vt.load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        vt.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        vt.save({}, tmp_path / "no" / "folder")


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        (object(), "the object is a object"),
        ({"a": [1, {"b": {1, 2}}]}, r"'a\.1\.b' is a set"),
        ({(1, 2): 3}, r"key \(1, 2\)"),
        ({True: 3}, "neither str nor int"),
    ],
)
def test_what_cannot_be_saved(obj: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    vt.save(1, path)
    with pytest.raises(TypeError, match=text):
        vt.save(obj, path)
    assert vt.load(path) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk() -> None:
    with pytest.raises(OSError) as caught, open("/dev/full", "wb") as file:
        vt.save({"x": vt.ones(100_000)}, file)
    assert caught.value.errno == errno.ENOSPC


def test_a_disk_that_fills_up_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    vt.save({"x": vt.ones(2)}, path)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"no space left to write .*intact") as caught:
        vt.save({"x": vt.zeros(2)}, path)
    assert caught.value.errno == errno.ENOSPC
    assert vt.load(path)["x"].tolist() == [1.0, 1.0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_files_get_ordinary_permissions(tmp_path: Path) -> None:
    vt.save(1, tmp_path / "saved")
    (tmp_path / "plain").write_bytes(b"")
    modes = {(tmp_path / name).stat().st_mode for name in ("saved", "plain")}
    assert len(modes) == 1
