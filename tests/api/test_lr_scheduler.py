"""Schedules set the rates that PyTorch's set, also after saving and loading."""

from __future__ import annotations

from typing import Any

import pytest
import torch as pt

import vibetensor.torch as vt

SCHEDULES: dict[str, Any] = {
    "lambda": lambda s, o: s.LambdaLR(o, lambda count: 0.9**count),
    "lambdas": lambda s, o: s.LambdaLR(o, [lambda count: 0.9**count, lambda count: 1.0]),
    "step": lambda s, o: s.StepLR(o, 4, 0.5),
    "linear": lambda s, o: s.LinearLR(o, 0.1, 0.8, 7),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 8, 0.01),
    "warm-up": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=5), s.CosineAnnealingLR(o, 10)], [5]
    ),
}


def make(framework: Any, name: str) -> tuple[Any, Any]:
    params = [framework.nn.Parameter(framework.ones(1)) for _ in range(2)]
    optimizer = framework.optim.SGD(
        [{"params": params[:1], "lr": 0.3}, {"params": params[1:]}], lr=0.1
    )
    return SCHEDULES[name](framework.optim.lr_scheduler, optimizer), optimizer


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str) -> None:
    (ours, opt_vt), (theirs, opt_pt) = make(vt, name), make(pt, name)
    for _ in range(19):
        rates = [group["lr"] for group in opt_vt.param_groups]
        assert rates == pytest.approx([group["lr"] for group in opt_pt.param_groups], rel=1e-9)
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-9)
        opt_pt.step()
        ours.step()
        theirs.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_resume(name: str) -> None:
    (whole, _), (first, _), (second, opt) = make(vt, name), make(vt, name), make(vt, name)
    for _ in range(7):
        whole.step()
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(5):
        whole.step()
        second.step()
    assert second.get_last_lr() == whole.get_last_lr()
    assert [group["lr"] for group in opt.param_groups] == whole.get_last_lr()


def test_wrong_use() -> None:
    schedules, optim = vt.optim.lr_scheduler, vt.optim
    optimizer = optim.SGD([vt.nn.Parameter(vt.ones(1))], lr=0.1)
    with pytest.raises(KeyError, match="initial_lr"):
        schedules.StepLR(optimizer, 2, last_epoch=3)
    with pytest.raises(ValueError, match="Expected 1 lr_lambdas"):
        schedules.LambdaLR(optimizer, [])
    with pytest.raises(ValueError, match="Starting multiplicative factor"):
        schedules.LinearLR(optimizer, 0.0)
