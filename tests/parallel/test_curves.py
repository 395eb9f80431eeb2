"""One loss curve, whatever trains it: any number of devices, and PyTorch."""

from __future__ import annotations

import pytest
import pytorch_twin
import tasks

from vibetensor import fabric


def cpu_mesh(ranks: int) -> fabric.Mesh:
    return fabric.mesh([f"cpu:{rank}" for rank in range(ranks)])


@pytest.mark.parametrize("name", tasks.CASES)
def test_the_number_of_devices_and_pytorch_change_nothing(name: str) -> None:
    case = tasks.CASES[name]
    batches = case.batches()
    curves = {ranks: tasks.curve(case, cpu_mesh(ranks), batches) for ranks in (1, 2, 3, 4)}
    for ranks in (2, 3, 4):
        assert tasks.furthest(curves[1], curves[ranks]) < 1e-5, f"{ranks} devices"

    twin = pytorch_twin.on_pytorch(case.module)
    model = case.make(twin)
    pytorch_twin.copy_weights(case.model(), model)
    theirs = pytorch_twin.train(model, twin.loss, batches, lr=case.lr, clip=1.0)
    assert tasks.furthest(curves[1], theirs) < 1e-4
    assert theirs[-1] < 0.7 * theirs[0], "nothing was learned"


def test_a_step_gives_the_same_bits_each_time() -> None:
    case = tasks.CASES["digits-mlp"]
    batches = case.batches(20)
    first = tasks.curve(case, cpu_mesh(3), batches)
    assert all(tasks.curve(case, cpu_mesh(3), batches) == first for _ in range(3))


def test_ranks_that_share_a_device() -> None:
    case = tasks.CASES["digits-mlp"]
    batches = case.batches(50)
    shared = tasks.curve(case, fabric.mesh("cpu:0", ranks=3), batches)
    assert shared == tasks.curve(case, cpu_mesh(3), batches)


def test_accumulation_gives_the_curve_of_the_whole_batch() -> None:
    case = tasks.CASES["digits-vit"]
    batches = case.batches(30)
    whole = tasks.curve(case, cpu_mesh(2), batches)
    parts = tasks.curve(case, cpu_mesh(2), batches, accumulate=3)
    assert tasks.furthest(whole, parts) < 1e-5


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bit_training_follows_pytorch(precision: str) -> None:
    case = tasks.CASES["digits-mlp"]
    batches = case.batches(60)
    ours = tasks.curve(case, cpu_mesh(2), batches, precision=precision)
    twin = pytorch_twin.on_pytorch(case.module)
    model = case.make(twin)
    pytorch_twin.copy_weights(case.model(), model)
    theirs = pytorch_twin.train(model, twin.loss, batches, lr=case.lr, clip=1.0)
    assert tasks.furthest(ours, theirs) < 0.05
