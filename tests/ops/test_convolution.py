"""Convolutions against PyTorch in float64: shapes, types, layouts, derivatives, the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as oracle
import vibetensor.torch.nn.functional as F
from same_numbers import numbers, ours, rounded

import vibetensor
import vibetensor.torch as torch
from vibetensor import nn

CUDA = pytest.param("cuda", marks=pytest.mark.cuda)
# Of the largest number wanted; 16-bit sums are rounded once, and once more with the bias.
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 8e-3}

# input, weight, options
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((2, 3, 8, 9), (4, 3, 3, 3), {}),
    "same": ((3, 16, 12, 12), (24, 16, 3, 3), {"padding": 1}),
    "odd": ((3, 5, 13, 7), (7, 5, 4, 3), {"padding": (2, 1)}),
    "one_by_one": ((2, 32, 7, 7), (48, 32, 1, 1), {}),
    "one_by_one_strided": ((2, 32, 8, 8), (16, 32, 1, 1), {"stride": 2}),
    "stem": ((2, 3, 33, 31), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    "rows_left_over": ((2, 8, 10, 11), (8, 8, 3, 3), {"stride": (3, 2)}),
    "dilated": ((2, 4, 15, 14), (6, 4, 3, 2), {"padding": (2, 3), "dilation": (2, 3)}),
    "groups": ((2, 12, 9, 9), (18, 4, 3, 3), {"padding": 1, "groups": 3}),
    "depthwise": ((2, 16, 10, 10), (16, 1, 3, 3), {"padding": 1, "groups": 16}),
    "depthwise_twice": ((2, 6, 10, 10), (12, 1, 5, 5), {"padding": 2, "groups": 6, "stride": 2}),
    "whole_image": ((4, 8, 6, 5), (10, 8, 6, 5), {}),
    "one_image": ((1, 8, 6, 6), (8, 8, 3, 3), {"padding": 1}),
    "one_channel": ((3, 1, 9, 9), (1, 1, 3, 3), {"padding": 1}),
    "wide_padding": ((2, 3, 4, 4), (4, 3, 3, 3), {"padding": 3}),
}


def assert_near(actual: Any, wanted: oracle.Tensor, dtype: str) -> None:
    """Products of matrices round what each place of the kernel adds to a gradient, so CPUs get more
    room."""
    assert tuple(actual.shape) == tuple(wanted.shape)
    if wanted.numel() == 0:
        return
    scale = max(1.0, float(wanted.detach().abs().max()))
    if actual.device.type == "cpu":
        scale *= 4
    error = np.abs(numbers(actual) - wanted.detach().numpy()).max()
    assert error <= TOLERANCE[dtype] * scale, f"{error} beyond {TOLERANCE[dtype] * scale}"


def bits(x: Any) -> np.ndarray:
    return np.asarray(x.detach().to("cpu").float().numpy()).view(np.uint32)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(device: str, dtype: str, shape: str) -> None:
    images, kernels, options = SHAPES[shape]
    oracle.manual_seed(len(shape))
    x = rounded(*images, dtype=dtype).requires_grad_()
    w = rounded(*kernels, dtype=dtype).requires_grad_()
    b = rounded(kernels[0], dtype=dtype).requires_grad_()
    wanted = oracle.nn.functional.conv2d(x, w, b, **options)
    grad = rounded(*wanted.shape, dtype=dtype)
    wanted.backward(grad)
    a, k, c = (ours(t, device, dtype) for t in (x, w, b))
    out = F.conv2d(a, k, c, **options)
    out.backward(ours(grad, device, dtype, grad=False))
    assert out.is_contiguous()
    assert_near(out, wanted, dtype)
    for actual, reference in ((a, x), (k, w), (c, b)):
        assert reference.grad is not None
        assert_near(actual.grad, reference.grad, dtype)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("rows", "kernels", "options"),
    [
        ((2, 6, 31), (8, 6, 5), {"padding": 2}),
        ((3, 4, 20), (6, 2, 3), {"stride": 2, "groups": 2, "dilation": 3}),
        ((5, 17), (3, 5, 4), {}),
    ],
)
def test_rows(
    device: str,
    dtype: str,
    rows: tuple[int, ...],
    kernels: tuple[int, ...],
    options: dict[str, int],
) -> None:
    oracle.manual_seed(0)
    x = rounded(*rows, dtype=dtype).requires_grad_()
    w = rounded(*kernels, dtype=dtype).requires_grad_()
    wanted = oracle.nn.functional.conv1d(x, w, **options)
    grad = rounded(*wanted.shape, dtype=dtype)
    wanted.backward(grad)
    a, k = ours(x, device, dtype), ours(w, device, dtype)
    out = F.conv1d(a, k, **options)
    out.backward(ours(grad, device, dtype, grad=False))
    assert_near(out, wanted, dtype)
    assert x.grad is not None
    assert w.grad is not None
    assert_near(a.grad, x.grad, dtype)
    assert_near(k.grad, w.grad, dtype)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", ["plain", "rows_left_over", "dilated", "groups", "depthwise"])
def test_second_derivative(device: str, dtype: str, shape: str) -> None:
    images, kernels, options = SHAPES[shape]
    oracle.manual_seed(1)
    x, w = rounded(*images, dtype=dtype), rounded(*kernels, dtype=dtype)

    def second(lib: Any, tensors: list[Any], call: Any) -> list[Any]:
        out = call(*tensors, **options)
        first = lib.autograd.grad((out * out).sum(), tensors, create_graph=True)
        total = sum((g * g).sum() for g in first)
        return list(lib.autograd.grad(total, tensors))

    wanted = second(oracle, [x.requires_grad_(), w.requires_grad_()], oracle.nn.functional.conv2d)
    actual = second(torch, [ours(x, device, dtype), ours(w, device, dtype)], F.conv2d)
    for one, other in zip(actual, wanted, strict=True):
        assert_near(one, other, dtype)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", ["channels_last", "transposed", "sliced", "misaligned"])
def test_layouts(device: str, dtype: str, layout: str) -> None:
    oracle.manual_seed(2)
    options = {"padding": 1, "stride": 2}
    x = rounded(3, 8, 9, 11, dtype=dtype).requires_grad_()
    w = rounded(6, 8, 3, 3, dtype=dtype).requires_grad_()
    wanted = oracle.nn.functional.conv2d(x, w, **options)
    grad = rounded(*wanted.shape, dtype=dtype)
    wanted.backward(grad)
    values = ours(x, device, dtype, grad=False)
    if layout == "channels_last":
        a = values.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    elif layout == "transposed":
        a = values.transpose(2, 3).contiguous().transpose(2, 3)
    elif layout == "sliced":
        a = torch.cat([values, values], 1)[:, 8:]
    else:
        flat = torch.cat([values.reshape(-1)[:1], values.reshape(-1)])
        a = flat[1:].view(*values.shape)
    a = a.detach().requires_grad_()
    k = ours(w, device, dtype)
    out = F.conv2d(a, k, **options)
    out.backward(ours(grad, device, dtype, grad=False).transpose(2, 3).contiguous().transpose(2, 3))
    assert_near(out, wanted, dtype)
    assert x.grad is not None
    assert w.grad is not None
    assert_near(a.grad, x.grad, dtype)
    assert_near(k.grad, w.grad, dtype)


@pytest.mark.cuda
def test_results_have_channels_last_where_images_have() -> None:
    x = torch.randn(2, 9, 9, 8, device="cuda", dtype=torch.bfloat16).permute(0, 3, 1, 2)
    w = torch.randn(4, 8, 3, 3, device="cuda", dtype=torch.bfloat16)
    out = F.conv2d(x, w, padding=1)
    assert out.shape == (2, 4, 9, 9)
    assert out.permute(0, 2, 3, 1).is_contiguous()


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("wanted", ["input", "weight"])
def test_one_gradient(device: str, wanted: str) -> None:
    oracle.manual_seed(3)
    x = rounded(2, 4, 6, 6, dtype="float32").requires_grad_(wanted == "input")
    w = rounded(4, 4, 3, 3, dtype="float32").requires_grad_(wanted == "weight")
    oracle.nn.functional.conv2d(x, w).square().sum().backward()
    a = ours(x, device, "float32", wanted == "input")
    k = ours(w, device, "float32", wanted == "weight")
    out = F.conv2d(a, k)
    (out * out).sum().backward()
    for actual, reference in ((a, x), (k, w)):
        assert (actual.grad is None) == (reference.grad is None)
        if reference.grad is not None:
            assert_near(actual.grad, reference.grad, "float32")


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("images", [(0, 3, 6, 6), (2, 0, 6, 6)])
def test_no_elements(device: str, images: tuple[int, ...]) -> None:
    x = torch.zeros(*images, device=device, requires_grad=True)
    w = torch.ones(4, images[1], 3, 3, device=device, requires_grad=True)
    b = torch.ones(4, device=device)
    out = F.conv2d(x, w, b)
    out.sum().backward()
    assert out.shape == (images[0], 4, 4, 4)
    assert np.all(numbers(out) == 1)
    assert x.grad.shape == x.shape
    assert w.grad.shape == w.shape
    assert np.all(numbers(w.grad) == 0)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_bad_arguments(device: str) -> None:
    x, w = torch.ones(2, 3, 5, 5, device=device), torch.ones(4, 3, 3, 3, device=device)
    with pytest.raises(RuntimeError, match="reaches over 7"):
        F.conv2d(x, w, dilation=3)
    with pytest.raises(RuntimeError, match="stride"):
        F.conv2d(x, w, stride=0)
    with pytest.raises(RuntimeError, match="same dtype"):
        F.conv2d(x, w.double())
    with pytest.raises(RuntimeError, match="groups=2"):
        F.conv2d(x, w, groups=2)


def gradients(x: Any, w: Any, options: dict[str, Any]) -> list[Any]:
    a, k = x.detach().requires_grad_(), w.detach().requires_grad_()
    out = F.conv2d(a, k, **options)
    (out * out).sum().backward()
    return [out, a.grad, k.grad]


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("images", "kernels", "options"),
    [
        ((16, 32, 28, 28), (64, 32, 3, 3), {"padding": 1}),
        ((16, 32, 28, 28), (64, 32, 3, 3), {"padding": 1, "stride": 2}),
        ((16, 64, 14, 14), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
        ((32, 64, 14, 14), (128, 64, 1, 1), {}),
    ],
)
def test_same_bits_twice(
    device: str,
    dtype: str,
    images: tuple[int, ...],
    kernels: tuple[int, ...],
    options: dict[str, Any],
) -> None:
    torch.manual_seed(4)
    x = torch.randn(*images, device=device).to(getattr(torch, dtype))
    w = torch.randn(*kernels, device=device).to(getattr(torch, dtype))
    first = gradients(x, w, options)
    for _ in range(3):
        for one, other in zip(first, gradients(x, w, options), strict=True):
            assert np.array_equal(bits(one), bits(other))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_products_of_matrices_agree_with_cudnn(dtype: str) -> None:
    torch.manual_seed(5)
    x = torch.randn(4, 16, 17, 17, device="cuda").to(getattr(torch, dtype))
    w = torch.randn(32, 16, 3, 3, device="cuda").to(getattr(torch, dtype))
    actual = gradients(x, w, {"padding": 1})
    torch.backends.cudnn.enabled = False
    try:
        wanted = gradients(x, w, {"padding": 1})
    finally:
        torch.backends.cudnn.enabled = True
    for one, other in zip(actual, wanted, strict=True):
        error = np.abs(numbers(one) - numbers(other)).max()
        assert error <= 2 * TOLERANCE[dtype] * np.abs(numbers(other)).max()


@pytest.mark.cuda
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 2)])
def test_many_terms(size: int, stride: int) -> None:
    torch.manual_seed(8)
    x = torch.randn(64, 128, 32, 32, device="cuda")
    w = torch.randn(128, 128, size, size, device="cuda")
    options = {"stride": stride, "padding": size // 2}
    actual = gradients(x, w, options)
    wanted = gradients(x.double(), w.double(), options)
    for one, other in zip(actual, wanted, strict=True):
        error = np.abs(numbers(one) - numbers(other)).max()
        assert error <= TOLERANCE["float32"] * np.abs(numbers(other)).max()


@pytest.mark.cuda
def test_tf32_only_where_allowed() -> None:
    torch.manual_seed(6)
    x = torch.randn(8, 64, 16, 16, device="cuda")
    w = torch.randn(64, 64, 3, 3, device="cuda")
    wanted = F.conv2d(x.double(), w.double(), padding=1)

    def error() -> float:
        out = numbers(F.conv2d(x, w, padding=1))
        return float(np.abs(out - numbers(wanted)).max() / np.abs(numbers(wanted)).max())

    assert error() < 1e-5
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert 2e-5 < error() < 1e-2
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_captured_step_has_the_bits_of_eager_ones(dtype: str) -> None:
    def losses(captured: bool) -> list[Any]:
        torch.manual_seed(7)
        net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2, groups=16),
            nn.Flatten(),
            nn.Linear(16 * 7 * 7, 10),
        )
        net = net.to("cuda").to(getattr(torch, dtype))
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        run = vibetensor.capture(step) if captured else step
        found = []
        for _ in range(8):
            x = torch.randn(8, 3, 16, 16, device="cuda").to(getattr(torch, dtype))
            found.append(bits(run(x, torch.randint(10, (8,), device="cuda"))))
        assert not captured or run.replays > 0, run.reason
        return [*found, *(bits(p) for p in net.parameters())]

    for one, other in zip(losses(True), losses(False), strict=True):
        assert np.array_equal(one, other)
