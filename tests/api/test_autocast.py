"""Regions of autocast: their state, what they cast once, gradients, and who else sees them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch as pt
import vibetensor.torch.nn.functional as F
from oracle import copy_weights, to_vt

import vibetensor.torch as torch
from vibetensor import fabric, fuse
from vibetensor.parallel import DataParallel, Trainer
from vibetensor.profiler import ProfilerActivity, profile

bf16 = torch.bfloat16


def parameter(*shape: int) -> Any:
    return torch.nn.Parameter(torch.randn(*shape))


def casts(function: Any) -> int:
    """How often a call casts forward."""
    with profile(activities=[ProfilerActivity.CPU]) as prof:
        function()
    return sum(row.count for row in prof.key_averages() if row.key == "to_dtype")


def test_defaults_are_torchs() -> None:
    for kind in ("cpu", "cuda"):
        assert not torch.is_autocast_enabled(kind)
        assert str(torch.get_autocast_dtype(kind)) == str(pt.get_autocast_dtype(kind))
    assert not torch.is_autocast_enabled()
    assert torch.is_autocast_cache_enabled()
    assert torch.amp.is_autocast_available("cpu") and not torch.amp.is_autocast_available("tpu")


def test_regions_nest_and_end_with_errors_too() -> None:
    x = torch.randn(3, 3)
    with torch.autocast("cpu"):
        assert (x @ x).dtype == bf16
        with torch.autocast("cpu", torch.float16):
            assert (x @ x).dtype == torch.get_autocast_dtype("cpu") == torch.float16
            with torch.autocast("cpu", enabled=False):
                assert (x @ x).dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
            assert (x @ x).dtype == torch.float16
        assert (x @ x).dtype == bf16
        with pytest.raises(ZeroDivisionError), torch.autocast("cpu", cache_enabled=False):
            assert not torch.is_autocast_cache_enabled()
            raise ZeroDivisionError
        assert torch.is_autocast_cache_enabled() and torch.is_autocast_enabled("cpu")
    assert (x @ x).dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    again = torch.autocast("cpu")
    with again, again:
        assert (x @ x).dtype == bf16
    assert not torch.is_autocast_enabled("cpu")


def test_a_decorated_function_and_a_method() -> None:
    class Model(torch.nn.Module):
        @torch.amp.autocast("cpu")
        def forward(self, x: Any, depth: int = 2) -> Any:
            return self.forward(x, depth - 1) if depth else x @ x

    assert Model()(torch.randn(2, 2)).dtype == bf16
    assert Model.forward.__name__ == "forward" and not torch.is_autocast_enabled("cpu")
    with pytest.raises(TypeError, match="function"):
        torch.autocast("cpu")(3)  # type: ignore[type-var]


def test_switches_without_a_region() -> None:
    x = torch.randn(2, 2)
    try:
        torch.set_autocast_dtype("cpu", torch.float16)
        torch.set_autocast_enabled("cpu", True)
        assert (x @ x).dtype == torch.float16
        with torch.autocast("cpu"):
            assert (x @ x).dtype == torch.float16
    finally:
        torch.set_autocast_enabled("cpu", False)
        torch.set_autocast_dtype("cpu", bf16)
    assert (x @ x).dtype == torch.float32


def test_what_cannot_be() -> None:
    for make in (pt.autocast, torch.autocast):
        with pytest.raises(RuntimeError, match="tpu"):
            make("tpu")
        with pytest.raises(ValueError, match="device_type"):
            make(3)
    with pytest.raises(RuntimeError, match="without an index"):
        torch.autocast("cuda:0")
    with pytest.warns(UserWarning, match="float32 is not supported"):
        region = torch.autocast("cpu", torch.float32)
    with region:
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    if not torch.cuda.is_available():
        with pytest.warns(UserWarning, match="no GPU"), torch.autocast("cuda"):
            assert not torch.is_autocast_enabled("cuda")


def test_the_state_is_the_threads_own() -> None:
    seen: list[Any] = []

    def other() -> None:
        seen.append(torch.is_autocast_enabled("cpu"))
        with torch.autocast("cpu", torch.float16):
            seen.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)

    with torch.autocast("cpu"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert torch.get_autocast_dtype("cpu") == bf16
    assert seen == [False, torch.float16]


def test_in_place_and_out_are_left_alone() -> None:
    x, half = torch.ones(2, 2), torch.ones(2, 2, dtype=bf16)
    with torch.autocast("cpu"):
        assert x.add_(half).dtype == torch.float32
        assert torch.exp(x, out=torch.empty(2, 2)).dtype == torch.float32


def test_gradients_flow_through_the_casts() -> None:
    w, x = parameter(4, 3), torch.randn(5, 3).requires_grad_()
    theirs = pt.nn.Parameter(pt.tensor(w.tolist()))
    given = pt.tensor(x.tolist(), requires_grad=True)
    with torch.autocast("cpu"):
        out = F.linear(x, w)
        loss = F.mse_loss(out, torch.zeros(5, 4))
    with pt.autocast("cpu"):
        loss_pt = pt.nn.functional.mse_loss(pt.nn.functional.linear(given, theirs), pt.zeros(5, 4))
    assert out.dtype == bf16 and loss.dtype == torch.float32
    loss.backward()
    loss_pt.backward()
    for ours, pts in ((w.grad, theirs.grad), (x.grad, given.grad)):
        assert ours.dtype == torch.float32
        pt.testing.assert_close(pt.tensor(ours.tolist()), pts, rtol=2e-2, atol=1e-3)


def test_backward_does_not_see_the_callers_region() -> None:
    w = parameter(4, 4)
    x = torch.randn(2, 4)
    seen: list[bool] = []

    def hook(_: Any) -> None:
        seen.append(torch.is_autocast_enabled("cpu"))
        with torch.autocast("cpu"):
            seen.append(torch.is_autocast_enabled("cpu"))

    out = x @ w  # in float32
    out.register_hook(hook)
    with torch.autocast("cpu"):
        out.sum().backward()
        assert torch.is_autocast_enabled("cpu")
    assert seen == [False, True]
    assert w.grad.tolist() == (x.t() @ torch.ones(2, 4)).tolist()


def test_a_parameter_is_cast_once_a_region() -> None:
    w, x = parameter(3, 3), torch.randn(2, 3, dtype=bf16)

    def twice() -> None:
        F.linear(x, w), F.linear(x, w)

    def region(**options: Any) -> Any:
        def run() -> None:
            with torch.autocast("cpu", **options):
                twice()
                with torch.autocast("cpu"):  # an inner end forgets nothing
                    pass
                twice()

        return run

    assert casts(region()) == 1
    assert casts(region(cache_enabled=False)) == 4
    with torch.autocast("cpu"):
        assert casts(twice) == 1
        torch.clear_autocast_cache()
        assert casts(twice) == 1
        assert casts(twice) == 0
        with torch.autocast("cpu", torch.float16):
            assert casts(lambda: F.linear(x.half(), w)) == 2
    with torch.autocast("cpu"):
        constant = w.detach()
        assert casts(lambda: (F.linear(x, constant), F.linear(x, constant))) == 2


def test_a_changed_parameter_is_cast_anew() -> None:
    w, x = parameter(2, 2), torch.ones(1, 2)
    with torch.autocast("cpu"):
        F.linear(x, w)
        with torch.no_grad():
            w.fill_(1.0)
        assert F.linear(x, w).tolist() == [[2.0, 2.0]]
        w.data = torch.full((2, 2), 2.0)
        assert F.linear(x, w).tolist() == [[4.0, 4.0]]
        optimizer = torch.optim.SGD([w], lr=1.0)
        F.linear(x, w).sum().backward()
        optimizer.step()
        assert F.linear(x, w).tolist() == [[2.0, 2.0]]


def test_what_was_cast_without_recording_does_not_stop_gradients() -> None:
    w, x = parameter(2, 2), torch.ones(1, 2)
    with torch.autocast("cpu"):
        with torch.no_grad():
            F.linear(x, w)
        F.linear(x, w).sum().backward()
        assert w.grad is not None
        F.linear(x, w).sum().backward()  # the cast was in a graph that is gone
    assert w.grad.tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_a_function_runs_backward_as_forward() -> None:
    seen: list[Any] = []

    class Product(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cpu")
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            ctx.save_for_backward(a, b)
            return a @ b

        @staticmethod
        @torch.amp.custom_bwd(device_type="cpu")
        def backward(ctx: Any, grad: Any) -> Any:
            a, b = ctx.saved_tensors
            seen.append((grad @ b.t()).dtype)
            return (grad @ b.t()).float(), (a.t() @ grad).float()

    class Wide(Product):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            seen.append(torch.is_autocast_enabled("cpu"))
            ctx.save_for_backward(a, b)
            return a @ b

    a, b = parameter(2, 3), parameter(3, 2)
    with torch.autocast("cpu"):
        out = Product.apply(a, b)
    assert out.dtype == bf16
    out.sum().backward()
    assert seen.pop() == bf16
    with torch.autocast("cpu"):
        out = Wide.apply(a.to(bf16), b)
    assert out.dtype == torch.float32 and seen.pop() is False
    out.sum().backward()
    assert seen.pop() == torch.float32


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_rows_of_16_bits_with_float32_parameters(norm: str) -> None:
    x, w = pt.randn(4, 8).bfloat16(), pt.randn(8)
    mine = to_vt(x.float()).to(bf16).requires_grad_()
    weight = to_vt(w, requires_grad=True)
    x.requires_grad_(), w.requires_grad_()
    ours = getattr(F, norm)(mine, (8,), weight)
    theirs = getattr(pt.nn.functional, norm)(x, (8,), w)
    assert ours.dtype == bf16 and theirs.dtype == pt.bfloat16
    ours.float().square().sum().backward()
    theirs.float().square().sum().backward()
    for a, b in ((ours, theirs), (weight.grad, w.grad), (mine.grad, x.grad)):
        pt.testing.assert_close(pt.tensor(a.float().tolist()), b.float(), rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_transformers_types_and_curve_are_torchs(norm_first: bool, kind: str) -> None:
    """Twelve steps of AdamW on one batch, beside torch's under the same region."""
    pt.manual_seed(3)
    options = {"dropout": 0.0, "batch_first": True, "norm_first": norm_first}
    theirs = pt.nn.Sequential(
        pt.nn.Embedding(11, 16),
        pt.nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", **options),
        pt.nn.LayerNorm(16),
        pt.nn.Linear(16, 11),
    ).to(getattr(pt, kind))
    ours = torch.nn.Sequential(
        torch.nn.Embedding(11, 16),
        torch.nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", **options),
        torch.nn.LayerNorm(16),
        torch.nn.Linear(16, 11),
    ).to(getattr(torch, kind))
    copy_weights(theirs.float(), ours)  # the values of the type, whatever the type between
    theirs.to(getattr(pt, kind))
    tokens = pt.randint(0, 11, (8, 6))
    target = (tokens * 3 + 1) % 11
    curves: list[list[float]] = []
    for lib, model, given, wanted in (
        (pt, theirs, tokens, target),
        (torch, ours, to_vt(tokens), to_vt(target)),
    ):
        optimizer = lib.optim.AdamW(model.parameters(), lr=1e-2)
        curve = []
        for _ in range(12):
            optimizer.zero_grad()
            with lib.autocast("cpu", lib.bfloat16):
                logits = model(given)
                loss = lib.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
            assert logits.dtype == lib.bfloat16 and loss.dtype == lib.float32
            loss.backward()
            optimizer.step()
            curve.append(float(loss.item()))
        curves.append(curve)
    assert curves[0][-1] < 0.5 * curves[0][0]
    tolerance = 0.02 if kind == "float32" else 0.08  # masters make our bfloat16 weights better
    assert curves[1] == pytest.approx(curves[0], abs=tolerance * curves[0][0])


def test_ranks_of_a_trainer_give_one_curve() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)

        @torch.autocast("cpu")
        def forward(self, x: Any) -> Any:
            return self.second(F.gelu(self.first(x)))

    def curve(ranks: int) -> list[float]:
        torch.manual_seed(0)
        model = DataParallel(Net(), fabric.mesh("cpu", ranks=ranks))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        trainer = Trainer(model, optimizer, lambda out, y: F.cross_entropy(out.float(), y))
        batch = torch.randn(16, 8), torch.randint(4, (16,))
        return [trainer.step(batch).loss for _ in range(6)]

    one, two = curve(1), curve(2)
    assert two == pytest.approx(one, rel=1e-2) and one[-1] < one[0]


def test_the_step_compiler_sees_plain_casts() -> None:
    w, v, x = parameter(16, 16), parameter(16, 16), torch.randn(4, 16)

    def step() -> list[Any]:
        w.grad = v.grad = None
        with torch.autocast("cpu"):
            hidden = F.linear(x, w).relu() * 2.0
            loss = F.mse_loss(F.linear(hidden, v), x)
        loss.backward()
        return [loss.tolist(), w.grad.tolist(), v.grad.tolist()]

    plain = step()
    with fuse.recording() as recording:
        recorded = step()
    assert recorded == plain
    assert recording.report.recorded > 0 and not recording.report.failure


def test_a_region_around_a_recording_and_one_inside_agree() -> None:
    w, x = parameter(8, 8), torch.randn(2, 8)
    with torch.autocast("cpu"):
        outside = F.linear(x, w)
        with fuse.recording():
            inside = F.linear(x, w)
        after = F.linear(x, w)
    assert inside.tolist() == outside.tolist() == after.tolist()


def test_fabric_tensors_are_cast_as_others_are() -> None:
    mesh = fabric.mesh("cpu", ranks=2)
    x, w = torch.randn(4, 6), torch.randn(5, 6)
    with torch.autocast("cpu"):
        plain = F.mse_loss(F.linear(x, w), torch.zeros(4, 5))
        spread = fabric.distribute(x, mesh, fabric.Shard(0))
        weight = fabric.distribute(w, mesh, fabric.Replicate())
        out = F.linear(spread, weight)
        loss = F.mse_loss(out, fabric.distribute(torch.zeros(4, 5), mesh, fabric.Shard(0)))
    assert out.dtype == bf16 and loss.dtype == torch.float32
    assert float(loss.full_tensor().item()) == pytest.approx(float(plain.item()), rel=1e-5)
