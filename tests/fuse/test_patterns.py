"""Each structured pattern: it is found, it gives the numbers, and it can be switched off."""

from __future__ import annotations

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import fuse

F = torch.nn.functional
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
TYPES = [torch.float32, torch.bfloat16]


def values(*tensors: torch.Tensor) -> list[np.ndarray]:
    return [t.detach().float().cpu().numpy() for t in tensors]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_add_norm_gives_the_same_bits(device: str, dtype: torch.dtype, norm: str) -> None:
    x, h = (torch.randn(24, 64, device=device).to(dtype) for _ in range(2))
    w, b = (torch.randn(64, device=device).to(dtype) for _ in range(2))

    def work() -> list[np.ndarray]:
        total = x + h
        out = F.layer_norm(total, (64,), w, b) if norm == "layer" else F.rms_norm(total, (64,), w)
        return [total, out]

    expected = values(*work())
    with fuse.recording() as made:
        found = work()
    assert same(values(*found), expected)
    assert made.report.rewrites == {"add_norm": 1} and made.report.launched == 1
    with fuse.recording({"add_norm": False}) as made:
        found = work()
    assert same(values(*found), expected) and made.report.rewrites == {}


@pytest.mark.parametrize("device", DEVICES)
def test_add_norm_leaves_alone_what_changes_in_between(device: str) -> None:
    x, h = (torch.randn(24, 64, device=device) for _ in range(2))

    def work() -> list[torch.Tensor]:
        own = x.clone()
        total = own + h
        own.mul_(2.0)  # the sum has to be made before
        total.add_(1.0)  # and is not what is normalised
        return [own, total, F.layer_norm(total, (64,))]

    expected = values(*work())
    with fuse.recording() as made:
        found = work()
    assert same(values(*found), expected) and made.report.rewrites == {}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_norm_backward_add_rounds_once(device: str, dtype: torch.dtype, norm: str) -> None:
    torch.manual_seed(0)
    start = torch.randn(24, 64, device=device).to(dtype)
    w = torch.randn(64, device=device).to(dtype)

    def work() -> list[torch.Tensor]:
        x = start.clone().requires_grad_()
        scale = w.clone().requires_grad_()
        inner = x * 1.0
        if norm == "layer":
            out = F.layer_norm(inner, (64,), scale)
        else:
            out = F.rms_norm(inner, (64,), scale)
        ((inner + torch.tanh(out)) * start).sum().backward()
        return [x.grad, scale.grad]

    expected = values(*work())
    with fuse.recording() as made:
        found = values(*work())
    assert made.report.rewrites == {"norm_backward_add": 1}
    # One rounding less: half a unit in the last place of what is added, which may be larger than
    # the sum.
    unit = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-23
    np.testing.assert_allclose(found[0], expected[0], rtol=unit, atol=4 * unit)
    assert found[1].tobytes() == expected[1].tobytes()
    with fuse.recording({"norm_backward_add": False}) as made:
        found = values(*work())
    assert same(found, expected) and made.report.rewrites == {}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [64, 72, 768, 1000, 1001, 2048, 8192])
@pytest.mark.parametrize("around", [True, False])
def test_norm_backward_sums_its_columns(
    device: str, dtype: torch.dtype, width: int, around: bool
) -> None:
    """The bias of a linear layer in front of a norm, with and without a branch around the norm."""
    torch.manual_seed(0)
    rows = 37
    x, weight, grad = (
        torch.randn(*sizes, device=device).to(dtype)
        for sizes in ((rows, 16), (width, 16), (rows, width))
    )
    start = [torch.randn(width, device=device).to(dtype) for _ in range(3)]

    def work() -> list[torch.Tensor]:
        bias, scale, shift = (w.clone().requires_grad_() for w in start)
        inner = F.linear(x, weight, bias)
        out = F.layer_norm(inner, (width,), scale, shift)
        total = ((torch.tanh(inner) + out if around else out) * grad).sum()
        return list(torch.autograd.grad(total, [inner, bias, scale, shift]))

    with fuse.recording({"norm_backward_sum": False}) as made:
        expected = values(*work())
    assert "norm_backward_sum" not in made.report.rewrites
    with fuse.recording() as made:
        found = values(*work())
    assert made.report.rewrites["norm_backward_sum"] == 1
    assert made.report.rewrites.get("norm_backward_add", 0) == around
    with fuse.recording():
        assert same(values(*work()), found)
    unit = 2.0**-7 if dtype == torch.bfloat16 else 2.0**-23
    # A GPU holds the row in another way then, so its sums may differ in their last bits.
    largest = np.abs(expected[0]).max()
    np.testing.assert_allclose(found[0], expected[0], rtol=2 * unit, atol=2.0**-21 * largest)
    # The values are summed before they are rounded: half a unit in the last place of each, and that
    # of the result.
    half = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-24
    exact = found[0].astype(np.float64)
    bound = half * (np.abs(exact).sum(0) + np.abs(exact.sum(0))) + rows * 2.0**-23
    assert (np.abs(found[1] - exact.sum(0)) <= bound).all()
    for f, e in zip(found[2:], expected[2:], strict=True):
        np.testing.assert_allclose(f, e, rtol=unit, atol=rows * 2.0**-20)


@pytest.mark.parametrize("device", DEVICES)
def test_norm_backward_leaves_a_sum_of_something_else_alone(device: str) -> None:
    x = torch.randn(24, 64, device=device)

    def work() -> list[torch.Tensor]:
        start = x.clone().requires_grad_()
        F.layer_norm(start, (64,)).sum().backward()
        grad = start.grad
        rows = grad.sum(1)
        grad.mul_(2.0)  # what is summed is not what the norm made
        return [rows, grad.sum(0)]

    expected = values(*work())
    with fuse.recording({"reductions": False}) as made:
        found = values(*work())
    assert same(found, expected) and "norm_backward_sum" not in made.report.rewrites


@pytest.mark.parametrize("device", DEVICES)
def test_a_result_that_is_only_copied_is_written_there(device: str) -> None:
    a, b = torch.randn(8, 16, device=device), torch.randn(16, 4, device=device)
    slots = torch.zeros(64, device=device)

    def work(again: bool) -> list[torch.Tensor]:
        product = a @ b
        slots[:32].view(8, 4).copy_(product)
        slots[32:48].copy_(a.sum(0))
        return [product * 2.0] if again else []

    work(False)
    expected = values(slots)
    slots.zero_()
    with fuse.recording() as made:
        work(False)
    assert same(values(slots), expected) and made.report.rewrites == {"copies": 2}
    with fuse.recording() as made:
        work(True)  # the product is read again: it needs its own memory
    assert same(values(slots), expected) and made.report.rewrites == {"copies": 1}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [*TYPES, torch.float16])
@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("rows", "inner", "width"), [(24, 16, 64), (300, 256, 384), (5, 8, 20), (1, 64, 128)]
)
def test_a_product_adds_to_the_residual_stream(
    device: str, dtype: torch.dtype, norm: str, bias: bool, rows: int, inner: int, width: int
) -> None:
    torch.manual_seed(0)
    x, stream, weight, shift, scale = (
        torch.randn(*sizes, device=device).to(dtype)
        for sizes in ((rows, inner), (rows, width), (width, inner), (width,), (width,))
    )

    def work() -> list[torch.Tensor]:
        product = F.linear(x, weight, shift if bias else None)
        total = stream + product if bias else product + stream
        if norm == "layer":
            return [total, F.layer_norm(total, (width,), scale)]
        return [total, F.rms_norm(total, (width,), scale)]

    with fuse.recording({"linear_add": False}) as made:
        expected = values(*work())
    assert made.report.rewrites == {"add_norm": 1}
    with fuse.recording() as made:
        found = values(*work())
    fits = device == "cpu"  # tests/ops/test_linear_products.py: large ones on a GPU
    assert made.report.rewrites == {"add_norm": 1, **({"linear_add": 1} if fits else {})}
    with fuse.recording():
        assert same(values(*work()), found)
    unit = {torch.float32: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}[dtype]
    a, s, w, b = (each.astype(np.float64) for each in values(x, stream, weight, shift))
    exact = a @ w.T + s + (b if bias else 0)
    if fits:  # rounded once
        sums = np.abs(a) @ np.abs(w).T + np.abs(s) + np.abs(b)
        assert (np.abs(found[0] - exact) <= unit / 2 * np.abs(exact) + 2.0**-18 * sums).all()
    largest = np.abs(exact).max()
    np.testing.assert_allclose(found[0], expected[0], rtol=2 * unit, atol=2 * unit * largest)
    np.testing.assert_allclose(found[1], expected[1], rtol=8 * unit, atol=16 * unit)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("what", ["kept", "changed", "written"])
def test_a_product_that_others_need_is_added_later(device: str, what: str) -> None:
    torch.manual_seed(0)
    x, weight = (torch.randn(64, 64, device=device).to(torch.bfloat16) for _ in range(2))
    start = torch.randn(64, 64, device=device).to(torch.bfloat16)

    def work() -> list[torch.Tensor]:
        stream = start.clone()
        product = F.linear(x, weight)
        if what == "changed":
            stream.mul_(2.0)  # the product was made before
        if what == "written":
            product.mul_(2.0)
        total = stream + product
        out = F.layer_norm(total, (64,))
        return [total, out, *([product] if what == "kept" else [])]

    expected = values(*work())
    with fuse.recording() as made:
        found = values(*work())
    assert same(found, expected) and "linear_add" not in made.report.rewrites


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("slope", [True, False])
def test_gelu_joins_the_products_around_it(
    device: str, dtype: torch.dtype, bias: bool, slope: bool
) -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(64, 128, bias=bias), torch.nn.Linear(128, 64, bias=bias)]
    grow, shrink = (layer.to(device).to(dtype) for layer in layers)
    start = torch.randn(40, 64, device=device).to(dtype)
    weights = list(grow.parameters()) + list(shrink.parameters())

    def work() -> list[torch.Tensor]:
        x = start.clone().requires_grad_()
        for weight in weights:
            weight.grad = None
        out = shrink(F.gelu(grow(x), approximate="tanh"))
        (out * start).sum().backward()
        return [out, x.grad, *[weight.grad for weight in weights]]

    expected = values(*work())
    with fuse.recording({"gelu_slope": slope}) as made:
        found = values(*work())
    # On a GPU, so small a product makes no slope.
    forward = "gelu_slope" if slope and device == "cpu" else "linear_gelu"
    assert made.report.rewrites[forward] == made.report.rewrites["gelu_backward"] == 1
    assert ({"gelu_slope", "linear_gelu"} - {forward}).isdisjoint(made.report.rewrites)
    # In float32 on a GPU the product for the weight's gradient makes that of the bias already.
    apart = device == "cpu" or dtype != torch.float32
    assert made.report.rewrites.get("column_sums", 0) == int(bias and apart)
    for name in ("gelu", "gelu_backward", "gelu_slope", "gelu_times"):
        assert name not in made.report.alone
    unit = 2.0**-6 if dtype == torch.bfloat16 else 2.0**-18
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=unit, atol=unit * np.abs(e).max())
    gelu = ["gelu_slope", "linear_gelu", "gelu_backward"]
    with fuse.recording(dict.fromkeys(gelu, False)) as made:
        found = values(*work())
    assert same(found, expected)


@pytest.mark.parametrize("what", ["kept", "no product", "without a gradient", "erf"])
def test_gelu_keeps_its_slope_only_behind_a_product_of_its_own(what: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 64)
    weight = torch.randn(128, 64).requires_grad_(what != "without a gradient")

    def work() -> list[torch.Tensor]:
        weight.grad = None
        pre = F.linear(x, weight)
        if what == "no product":
            pre = pre * 2
        out = F.gelu(pre, approximate="none" if what == "erf" else "tanh")
        results = [out]
        if what == "kept":
            results.append(pre * 3)
        del pre
        if what != "without a gradient":
            (out * out.detach()).sum().backward()
            results.append(weight.grad)
        return results

    expected = values(*work())
    with fuse.recording() as made:
        found = values(*work())
    assert "gelu_slope" not in made.report.rewrites
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-5, atol=1e-5)


def test_a_kept_slope_serves_more_than_one_backward_pass() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(40, 64), torch.randn(128, 64).requires_grad_()

    def work() -> list[torch.Tensor]:
        out = F.gelu(F.linear(x, weight), approximate="tanh").sum()
        return [torch.autograd.grad(out, [weight], retain_graph=True)[0] for _ in range(2)]

    expected = values(*work())
    with fuse.recording() as made:
        found = values(*work())
    assert made.report.rewrites["gelu_slope"] == 1
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-5, atol=1e-5)
    with fuse.recording():
        out = F.gelu(F.linear(x, weight), approximate="tanh").sum()
        with pytest.raises(NotImplementedError, match="gelu_times"):
            torch.autograd.grad(out, [weight], create_graph=True)


@pytest.mark.parametrize("device", DEVICES)
def test_gelu_without_a_gradient_keeps_nothing(device: str) -> None:
    x, w = (torch.randn(64, 64, device=device).to(torch.bfloat16) for _ in range(2))
    with fuse.recording() as made:
        out = F.gelu(F.linear(x, w), approximate="tanh")
    expected = F.gelu(F.linear(x, w), approximate="tanh")
    assert made.report.rewrites == {"linear_gelu": 1} and made.report.launched == 1
    np.testing.assert_allclose(*values(out, expected), rtol=2.0**-6, atol=2.0**-6)
    with fuse.recording() as made:
        out = F.gelu(F.linear(x, w))  # the form with erf has no such kernel
    assert made.report.rewrites == {}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kept", [False, True])
def test_losses_and_their_gradient_in_one_pass(device: str, kept: bool) -> None:
    torch.manual_seed(0)
    start = torch.randn(24, 50, device=device)
    target = torch.randint(0, 50, (24,), device=device)
    target[3] = -100

    def work() -> list[torch.Tensor]:
        x = start.clone().requires_grad_()
        logits = x * 2.0
        losses = F.cross_entropy(logits, target, reduction="none")
        total = (losses * 0.5).sum()
        likeliest = logits.amax(1) if kept else total
        if not kept:
            del logits
        total.backward()
        return [x.grad, losses, total, likeliest]

    expected = values(*work())
    with fuse.recording() as made:
        found = values(*work())
    assert made.report.rewrites.get("cross_entropy") == 1
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    with fuse.recording({"cross_entropy": False}) as made:
        work()
    assert "cross_entropy" not in made.report.rewrites


@pytest.mark.parametrize("device", DEVICES)
def test_losses_that_their_gradient_depends_on_stay_apart(device: str) -> None:
    start = torch.randn(8, 20, device=device)
    target = torch.randint(0, 20, (8,), device=device)

    def work() -> list[torch.Tensor]:
        x = start.clone().requires_grad_()
        losses = F.cross_entropy(x * 2.0, target, reduction="none")
        (losses * losses).sum().backward()
        return [x.grad, losses]

    expected = values(*work())
    with fuse.recording({"reductions": False}) as made:
        found = values(*work())
    assert same(found, expected) and "cross_entropy" not in made.report.rewrites
