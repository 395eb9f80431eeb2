"""The same curves on GPUs: one rank, several ranks on one GPU, several GPUs, and 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pytorch_twin
import tasks

import vibetensor.torch as torch
from vibetensor import cuda, fabric, nn
from vibetensor.parallel import DataParallel, Trainer

pytestmark = pytest.mark.cuda


@pytest.fixture(scope="module", params=list(tasks.CASES))
def case(request: pytest.FixtureRequest) -> tasks.Case:
    return tasks.CASES[request.param]


def on_pytorch(case: tasks.Case, *, autocast: bool = False) -> list[float]:
    import torch as pytorch

    pytorch.backends.cuda.matmul.allow_tf32 = False
    pytorch.backends.cudnn.allow_tf32 = False
    twin = pytorch_twin.on_pytorch(case.module)
    model = case.make(twin)
    pytorch_twin.copy_weights(case.model(), model)
    return pytorch_twin.train(
        model, twin.loss, case.batches(), lr=case.lr, clip=1.0, device="cuda", autocast=autocast
    )


@pytest.mark.unsanitized("curves beside PyTorch's would be minutes")
def test_any_number_of_ranks_on_one_gpu_gives_the_curve_of_pytorch(case: tasks.Case) -> None:
    batches = case.batches()
    theirs = on_pytorch(case)
    for ranks in (1, 2, 4):
        ours = tasks.curve(case, fabric.mesh("cuda:0", ranks=ranks), batches)
        assert tasks.furthest(ours, theirs) < 1e-4, f"{ranks} ranks"


@pytest.mark.cuda(devices=2)
@pytest.mark.unsanitized("curves beside PyTorch's would be minutes")
def test_all_gpus(case: tasks.Case) -> None:
    batches = case.batches()
    one = tasks.curve(case, fabric.mesh("cuda:0"), batches)
    every = tasks.curve(case, fabric.mesh(), batches)
    assert tasks.furthest(one, every) < 1e-4


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.unsanitized("curves beside PyTorch's would be minutes")
def test_bfloat16_stays_near_autocast(case: tasks.Case, ranks: int) -> None:
    ours = tasks.curve(case, fabric.mesh("cuda:0", ranks=ranks), case.batches(), precision="bf16")
    theirs = on_pytorch(case, autocast=True)
    # Single batches are noisy in 16 bits: the curve is what a reader sees of them.
    smooth = [np.convolve(curve, np.ones(10) / 10, "valid") for curve in (ours, theirs)]
    assert tasks.furthest(list(smooth[0]), list(smooth[1])) < 0.02


def test_runs_are_the_same_bits(case: tasks.Case) -> None:
    batches = case.batches(30)
    mesh = fabric.mesh("cuda:0", ranks=2)
    assert tasks.curve(case, mesh, batches) == tasks.curve(case, mesh, batches)


def test_resuming_gives_the_bits_of_one_run(tmp_path: Path) -> None:
    def run(folder: Path, stops: list[int]) -> bytes:
        for stop in stops:
            torch.manual_seed(3)
            net = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.2), nn.GELU(), nn.Linear(64, 4))
            model = DataParallel(net, fabric.mesh("cuda:0", ranks=2))
            trainer = Trainer(
                model, torch.optim.AdamW(model.parameters()), nn.MSELoss(),
                precision="bf16", clip=1.0,
            )  # fmt: skip
            numbers = np.random.default_rng(1).standard_normal((40, 12)).astype(np.float32)
            batches = [
                (torch.from_numpy(n[:, :8].copy()), torch.from_numpy(n[:, 8:].copy()))
                for n in np.split(numbers, 4)
            ]
            trainer.fit(batches, steps=stop, out=folder, resume=True)
        return b"".join(p.detach().float().cpu().numpy().tobytes() for p in model.parameters())

    assert run(tmp_path / "a", [15]) == run(tmp_path / "b", [6, 15])


def test_a_step_allocates_nothing_new_once_warm() -> None:
    case = tasks.CASES["digits-mlp"]
    model = DataParallel(case.model(), fabric.mesh("cuda:0", ranks=2))
    trainer = Trainer(model, torch.optim.AdamW(model.parameters()), case.module.loss, clip=1.0)
    batches = [tuple(torch.from_numpy(a) for a in batch) for batch in case.batches(30)]
    for batch in batches[:10]:
        trainer.step(batch)
    before = cuda.memory_stats(0)["num_device_alloc"]
    for batch in batches[10:]:
        trainer.step(batch)
    assert cuda.memory_stats(0)["num_device_alloc"] == before
