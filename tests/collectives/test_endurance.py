"""The short form of the endurance run; `python tests/collectives/endurance.py` is the long one."""

from __future__ import annotations

import endurance
import endurance_quick
import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import fabric


@pytest.mark.parametrize("ranks", [2, 3, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_on_cpu_devices(ranks: int, seed: int) -> None:
    vibetensor.set_cpu_devices(16)
    mesh = fabric.mesh([f"cpu:{rank}" for rank in range(ranks)])
    assert endurance.run(mesh, 400, seed) >= 400


@pytest.mark.cuda
@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("staged", [False, True])
def test_on_gpus(ranks: int, staged: bool) -> None:
    count = torch.cuda.device_count()
    mesh = fabric.mesh([f"cuda:{rank % count}" for rank in range(ranks)])
    assert endurance.run(mesh, 400, ranks, always_stage=staged) >= 400


@pytest.mark.cuda
@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize(
    "algorithm",
    ["packets", "lines", "packets2", "one_shot", "two_shot", "push", "copy_engine", "ring"],
)
def test_on_gpus_by_one_algorithm(algorithm: str, ranks: int) -> None:
    count = torch.cuda.device_count()
    mesh = fabric.mesh([f"cuda:{rank % count}" for rank in range(ranks)])
    assert endurance.run(mesh, 200, 7, algorithm=algorithm) >= 200


def test_the_quick_form_sees_one_wrong_number() -> None:
    vibetensor.set_cpu_devices(16)
    mesh = fabric.mesh([f"cpu:{rank}" for rank in range(4)])
    assert endurance_quick.run(mesh, 1000)["calls"] >= 1000
    lane = endurance_quick.Lane(mesh, 0)
    for case in (case for cases in lane.cases.values() for case in cases):
        if case.kind == "all_reduce" and case.wanted[0].numel():
            case.wanted[0][-1] += 1
            break
    with pytest.raises(AssertionError, match=r"\d wrong numbers on cpu:0: .*all_reduce"):
        for _ in range(100):
            lane.batch()
            lane.check()


@pytest.mark.cuda
@pytest.mark.parametrize("ranks", [2, 4])
def test_the_quick_form_on_gpus(ranks: int) -> None:
    count = torch.cuda.device_count()
    mesh = fabric.mesh([f"cuda:{rank % count}" for rank in range(ranks)])
    assert endurance_quick.run(mesh, 2000)["calls"] >= 2000
