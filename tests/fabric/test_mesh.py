"""Meshes: which ranks there are, in which order, and what is refused."""

from __future__ import annotations

import pytest

import vibetensor
from vibetensor import fabric


@pytest.fixture(autouse=True)
def cpu_devices() -> None:
    vibetensor.set_cpu_devices(4)


def test_a_list_of_devices_keeps_its_order() -> None:
    mesh = fabric.mesh(["cpu:2", "cpu:0"])
    assert [str(device) for device in mesh.devices] == ["cpu:2", "cpu:0"]
    assert len(mesh) == 2
    assert str(mesh[1]) == "cpu:0"


def test_more_ranks_than_devices_share_them_in_blocks() -> None:
    assert fabric.mesh("cpu:1", ranks=3) == fabric.mesh(["cpu:1"] * 3)
    assert fabric.mesh(["cpu:0", "cpu:1"], ranks=4) == fabric.mesh(
        ["cpu:0", "cpu:0", "cpu:1", "cpu:1"]
    )


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("cpu", ["cpu:0"]),
        ("cpu:3", ["cpu:0", "cpu:1", "cpu:2"]),
        ("cpu:6", [f"cpu:{i}" for i in range(6)]),
    ],
)
def test_a_command_line_names_cpu_devices_by_their_number(text: str, devices: list[str]) -> None:
    assert fabric.parse_devices(text) == fabric.mesh(devices)


def test_meshes_of_the_same_ranks_are_equal_keys() -> None:
    assert len({fabric.mesh(["cpu:0", "cpu:1"]), fabric.mesh(["cpu:0", "cpu:1"])}) == 1


@pytest.mark.parametrize("text", ["gpu", "cuda0", "cpu:x", "cuda:0,", "cpu:0,1", ""])
def test_a_command_line_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected auto, all, cpu:N"):
        fabric.parse_devices(text)


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(RuntimeError, match="cpu:63 does not exist"):
        fabric.mesh(["cpu:63"])
    with pytest.raises(RuntimeError, match="cuda:17"):
        fabric.mesh(["cuda:17"])
    with pytest.raises(ValueError, match="empty"):
        fabric.mesh([])
    with pytest.raises(ValueError, match="at most 16"):
        fabric.mesh("cpu:0", ranks=17)
    with pytest.raises(ValueError, match="at least as many ranks"):
        fabric.mesh(["cpu:0", "cpu:1"], ranks=1)
    with pytest.raises(IndexError, match="rank 2 is out of range"):
        fabric.mesh(["cpu:0", "cpu:1"])[2]


@pytest.mark.cuda
def test_the_default_is_every_gpu() -> None:
    from vibetensor import cuda

    wanted = [f"cuda:{i}" for i in range(cuda.device_count())]
    assert [str(device) for device in fabric.mesh().devices] == wanted
    assert fabric.parse_devices("all") == fabric.mesh()
    assert fabric.parse_devices("cuda:0", ranks=4) == fabric.mesh(["cuda:0"] * 4)
    with pytest.raises(ValueError, match="one device type"):
        fabric.mesh(["cpu:0", "cuda:0"])
    with pytest.raises(ValueError, match="at most 8"):
        fabric.mesh("cuda:0", ranks=9)
