"""GradScaler beside PyTorch's: scales, skipped steps, errors, and what its state holds."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch as pt

import vibetensor
import vibetensor.torch as torch

INF, NAN = math.inf, math.nan
LIBS = pytest.mark.parametrize("lib", [pt, torch], ids=["torch", "vibetensor"])


def made(lib: Any, optimizer: str = "SGD", count: int = 2, **options: Any) -> Any:
    """Parameters of ones, their optimizer, and a scaler."""
    params = [lib.nn.Parameter(lib.ones(3)) for _ in range(count)]
    return params, getattr(lib.optim, optimizer)(params, lr=0.125), scaler(lib, **options)


def scaler(lib: Any, **options: Any) -> Any:
    return lib.amp.GradScaler("cpu", **options)


def lose(lib: Any, params: list[Any], of: Any, worst: float = 1.0) -> None:
    """Gradients 1, and `worst` among those of the last parameter."""
    factors = [lib.ones(3) for _ in params]
    factors[-1] = lib.tensor([1.0, worst, 1.0])
    loss = sum((p * f).sum() for p, f in zip(params, factors, strict=True))
    of.scale(loss).backward()


PLAN = [1.0, 1.0, INF, 1.0, 1.0, 1.0, NAN, -INF, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("unscale", [False, True])
def test_scales_and_parameters_are_torchs(optimizer: str, unscale: bool) -> None:
    seen: list[list[float]] = []
    for lib in (pt, torch):
        options = {"init_scale": 64.0, "growth_interval": 3, "backoff_factor": 0.25}
        params, opt, of = made(lib, optimizer, growth_factor=4.0, **options)
        history: list[float] = []
        for worst in PLAN:
            opt.zero_grad()
            lose(lib, params, of, worst)
            if unscale:
                of.unscale_(opt)
                history += params[0].grad.tolist()
            of.step(opt)
            of.update()
            history += [of.get_scale(), of.state_dict()["_growth_tracker"]]
            history += [number for p in params for number in p.tolist()]
        seen.append(history)
    assert seen[1] == pytest.approx(seen[0], rel=1e-5)


@LIBS
def test_one_optimizer_overflows_and_another_does_not(lib: Any) -> None:
    params, opt, of = made(lib, init_scale=8.0)
    other = lib.nn.Parameter(lib.ones(2))
    second = lib.optim.SGD([other], lr=1.0)
    of.scale((other * 1.0).sum()).backward()
    lose(lib, params, of, INF)
    of.step(opt)
    of.step(second)
    of.update()
    assert params[0].tolist() == [1.0] * 3 and other.tolist() == [0.0, 0.0]
    assert of.get_scale() == 4.0


@LIBS
def test_calls_out_of_order(lib: Any) -> None:
    params, opt, of = made(lib)
    for call in (lambda: of.unscale_(opt), lambda: of.step(opt), of.update):
        with pytest.raises(AssertionError):
            call()
    lose(lib, params, of)
    with pytest.raises(AssertionError):
        of.update()
    of.unscale_(opt)
    with pytest.raises(RuntimeError, match="already been called on this optimizer"):
        of.unscale_(opt)
    of.step(opt)
    with pytest.raises(RuntimeError, match="already been called since"):
        of.step(opt)
    with pytest.raises(RuntimeError, match="after step"):
        of.unscale_(opt)
    of.update()
    with pytest.raises(RuntimeError, match="Closure"):
        of.step(opt, closure=lambda: None)
    with pytest.raises(AssertionError, match="No inf checks"):
        opt.zero_grad()
        of.step(opt)


@LIBS
def test_what_it_refuses(lib: Any) -> None:
    with pytest.raises(AssertionError):
        scaler(lib, growth_factor=1.0)
    with pytest.raises(AssertionError):
        scaler(lib, backoff_factor=1.0)
    of = scaler(lib)
    with pytest.raises(ValueError, match="iterable"):
        of.scale(3)
    half = lib.nn.Parameter(lib.ones(2, dtype=lib.float16))
    opt = lib.optim.SGD([half], lr=1.0)
    of.scale(half.float().sum()).backward()
    with pytest.raises(ValueError, match="FP16"):
        of.unscale_(opt)


@LIBS
def test_several_losses_and_a_scale_set_by_hand(lib: Any) -> None:
    of = scaler(lib, init_scale=4.0)
    one, (two, three) = of.scale([lib.tensor(1.0), (lib.tensor(2.0), lib.tensor(3.0))])
    assert [one.item(), two.item(), three.item()] == [4.0, 8.0, 12.0]
    of.update(16.0)
    assert of.get_scale() == 16.0
    of.update(lib.tensor(32.0))
    assert of.get_scale() == 32.0
    for name, value in (("growth_factor", 3.0), ("backoff_factor", 0.1), ("growth_interval", 7)):
        getattr(of, f"set_{name}")(value)
        assert getattr(of, f"get_{name}")() == value


@LIBS
def test_disabled_it_passes_everything_through(lib: Any) -> None:
    params, opt, _ = made(lib)
    of = scaler(lib, enabled=False)
    lose(lib, params, of)
    of.unscale_(opt)
    of.step(opt)
    of.update()
    assert params[0].tolist() == [0.875] * 3
    assert of.get_scale() == 1.0 and of.state_dict() == {} and not of.is_enabled()


def test_state_goes_to_torch_and_back() -> None:
    params, opt, of = made(torch, init_scale=32.0, growth_interval=5)
    for _ in range(3):
        lose(torch, params, of)
        of.step(opt)
        of.update()
    theirs = scaler(pt)
    theirs.load_state_dict(of.state_dict())
    assert theirs.state_dict() == of.state_dict()
    for again in (scaler(torch), copy.deepcopy(of), pickle.loads(pickle.dumps(of))):
        again.load_state_dict(theirs.state_dict())
        assert again.state_dict() == of.state_dict() and again.get_scale() == 32.0
    assert pickle.loads(pickle.dumps(of)).state_dict() == of.state_dict()
    with pytest.raises(RuntimeError, match="empty"):
        of.load_state_dict({})
    lose(torch, params, of)
    of.step(opt)
    with pytest.raises(AssertionError, match="update"):
        pickle.dumps(of)


def test_float16_parameters_and_clipping() -> None:
    """A step of 16-bit parameters needs no unscale_; float32 gradients are clipped after it."""
    torch.manual_seed(0)
    half = torch.nn.Linear(4, 4).half()
    wide = torch.nn.Linear(4, 4)
    for model, clip in ((half, False), (wide, True)):
        opt = torch.optim.AdamW(model.parameters(), lr=1e-2)
        of = scaler(torch, init_scale=1024.0)
        x = torch.ones(2, 4).to(model.weight.dtype)
        losses = []
        for _ in range(5):
            opt.zero_grad()
            loss = model(x).float().square().mean()
            of.scale(loss).backward()
            if clip:
                of.unscale_(opt)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            of.step(opt)
            of.update()
            losses.append(float(loss.item()))
        assert losses[-1] < losses[0] and of.get_scale() == 1024.0


def test_other_optimizers_and_several_devices() -> None:
    class Plain:
        """Knows nothing of infinities."""

        def __init__(self, params: list[Any]) -> None:
            self.param_groups = [{"params": params}]
            self.steps = 0

        def step(self) -> str:
            self.steps += 1
            return "done"

    params, _, of = made(torch, init_scale=4.0)
    opt = Plain(params)
    lose(torch, params, of)
    assert of.step(opt) == "done" and params[0].grad.tolist() == [1.0] * 3
    of.update()
    lose(torch, params, of, NAN)
    assert of.step(opt) is None and opt.steps == 1
    of.update()
    assert of.get_scale() == 2.0

    vibetensor.set_cpu_devices(2)
    here = torch.nn.Parameter(torch.ones(2))
    there = torch.nn.Parameter(torch.ones(2, device="cpu:1"))
    sgd = torch.optim.SGD([here, there], lr=0.5)
    for worst, expected in ((1.0, 0.5), (INF, 0.5)):
        sgd.zero_grad()
        of.scale(here.sum() + (there * worst).sum().to("cpu:0")).backward()
        of.step(sgd)
        of.update()
        assert here.tolist() == there.tolist() == [expected] * 2
    assert of.get_scale() == 1.0


def test_a_training_loop_in_float16_is_torchs() -> None:
    """Autocast and scaler together, with a first scale that overflows."""
    curves = []
    for lib in (pt, torch):
        pt.manual_seed(1)
        weights = [pt.randn(16, 8) * 0.3, pt.randn(4, 16) * 0.3, pt.randn(12, 8)]
        first, second, x = (lib.tensor(w.tolist()) for w in weights)
        first, second = lib.nn.Parameter(first), lib.nn.Parameter(second)
        target = lib.tensor([i % 4 for i in range(12)])
        opt = lib.optim.AdamW([first, second], lr=1e-2)
        of = scaler(lib, init_scale=2.0**26, growth_interval=4)
        curve, scales = [], []
        for _ in range(16):
            opt.zero_grad()
            with lib.autocast("cpu", lib.float16):
                F = lib.nn.functional
                loss = F.cross_entropy(F.linear(F.relu(F.linear(x, first)), second), target)
            of.scale(loss).backward()
            of.unscale_(opt)
            lib.nn.utils.clip_grad_norm_([first, second], 1.0)
            of.step(opt)
            of.update()
            curve.append(loss.item())
            scales.append(of.get_scale())
        curves.append((curve, scales))
    (theirs, their_scales), (ours, our_scales) = curves
    assert our_scales == their_scales and our_scales[0] < 2.0**26
    assert ours == pytest.approx(theirs, rel=5e-3) and ours[-1] < ours[0]


def test_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    params, opt, of = made(torch)

    def never(*_: Any) -> None:
        raise AssertionError("the host read a value")

    lose(torch, params, of, INF)
    for name in ("item", "tolist", "__float__", "__bool__"):
        monkeypatch.setattr(torch.Tensor, name, never, raising=False)
    of.step(opt)
    of.update()
