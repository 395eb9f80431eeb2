"""Float32 products on tensor cores: as good as plain float32 arithmetic, for any numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import fuse

F = torch.nn.functional
pytestmark = pytest.mark.cuda
UNIT = 2.0**-24


@contextmanager
def products(how: str) -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = how
    try:
        yield
    finally:
        matmul.fp32_precision = before


def cuda(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).to("cuda")


def operands(a: np.ndarray, b: np.ndarray, layout: str) -> tuple[torch.Tensor, torch.Tensor]:
    """a and b on the GPU, lying along k ("n") or across ("t" for the left, "n" for the right)."""
    left = cuda(a) if layout[0] == "n" else cuda(np.ascontiguousarray(a.T)).t()
    right = cuda(b) if layout[1] == "n" else cuda(np.ascontiguousarray(b.T)).t()
    return left, right


def errors(result: torch.Tensor, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Errors in units of 2^-24 of the sum of magnitudes."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    magnitude = np.abs(a64) @ np.abs(b64)
    difference = np.abs(result.cpu().numpy().astype(np.float64) - a64 @ b64)
    return difference / np.maximum(magnitude, 1e-300) / UNIT


def measured(how: str, a: np.ndarray, b: np.ndarray, layout: str) -> np.ndarray:
    with products(how):
        left, right = operands(a, b, layout)
        return errors(left @ right, a, b)


SHAPES = [
    (4096, 1024, 64), (1024, 1024, 256), (2100, 1060, 100), (8192, 36, 512), (1292, 1284, 4096),
    (64, 64, 65536), (384, 128, 8192), (4096, 1024, 40), (1, 4096, 4096), (4096, 4, 512),
    (1028, 1029, 516), (129, 8192, 132), (2048, 2048, 32),
]  # fmt: skip


@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
@pytest.mark.parametrize("sign", ["normal", "positive"])
def test_as_good_as_float32(m: int, n: int, k: int, layout: str, sign: str) -> None:
    rng = np.random.default_rng(m + n + k)
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    if sign == "positive":
        a, b = np.abs(a), np.abs(b)
    plain, split = measured("ieee", a, b, layout), measured("bf16x6", a, b, layout)
    assert split.max() <= max(2 * plain.max(), 2.5)
    assert split.mean() <= max(1.5 * plain.mean(), 0.75)


def test_numbers_of_all_sizes() -> None:
    rng = np.random.default_rng(0)
    m, n, k = 1024, 1024, 512
    ranges = [((-30, 18), (-30, 18)), ((-44, -8), (-44, -8)), ((-36, 0), (-36, 0))]
    for left, right in [*ranges, ((20, 37), (-37, -20)), ((-40, -30), (20, 37))]:
        a, b = (
            (rng.standard_normal(size) * 10.0 ** rng.uniform(*exponents, size)).astype(np.float32)
            for size, exponents in (((m, k), left), ((k, n), right))
        )
        for layout in ("nt", "tn", "nn"):
            plain, split = measured("ieee", a, b, layout), measured("bf16x6", a, b, layout)
            few = 2.0**-149 * k  # what results near the end of the range may round to
            a64, b64 = np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64))
            allowance = few / np.maximum(a64 @ b64, 1e-300) / UNIT
            assert (split <= np.maximum(2 * plain.max(), 2.5) + allowance).all()


def test_denormal_numbers_count() -> None:
    rng = np.random.default_rng(1)
    a = (rng.standard_normal((1024, 256)) * 1e-41).astype(np.float32)
    b = (rng.standard_normal((256, 1024)) * 1e30).astype(np.float32)
    assert measured("bf16x6", a, b, "nt").max() <= 4


@pytest.mark.parametrize("layout", ["nt", "nn", "tn"])
@pytest.mark.parametrize("k", [256, 16384])
def test_what_is_not_finite_stays_where_it_belongs(layout: str, k: int) -> None:
    rng = np.random.default_rng(2)
    m = n = 1024 if k == 256 else 256
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    a[3, 5], a[100, 7], a[101, 9], a[200, 1] = np.inf, -np.inf, np.nan, 3e38
    b[:, 17] = 0
    b[2, 250] = np.inf
    with np.errstate(invalid="ignore", over="ignore"):
        wanted = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    with products("bf16x6"):
        left, right = operands(a, b, layout)
        found = (left @ right).cpu().numpy()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_array_equal(np.isposinf(found), np.isposinf(wanted))
    np.testing.assert_array_equal(np.isneginf(found), np.isneginf(wanted))
    finite = np.isfinite(wanted)
    np.testing.assert_allclose(found[finite], wanted[finite], rtol=2e-5, atol=2e-3)


def test_large_results_are_not_lost() -> None:
    rng = np.random.default_rng(3)
    a = np.abs(rng.standard_normal((1024, 256), np.float32)) * np.float32(1e18)
    b = np.abs(rng.standard_normal((256, 1024), np.float32)) * np.float32(1e17)
    assert measured("bf16x6", a, b, "nt").max() <= 30


def test_batches() -> None:
    rng = np.random.default_rng(4)
    a = rng.standard_normal((5, 1024, 192), np.float32)
    b = rng.standard_normal((5, 192, 256), np.float32)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    with products("bf16x6"):
        found = torch.matmul(cuda(a), cuda(b)).cpu().numpy()
        shared = torch.matmul(cuda(a), cuda(b[1])).cpu().numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(shared, a.astype(np.float64) @ b[1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("rows", "inner", "outer"), [(4096, 256, 1024), (96, 16384, 64)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_and_its_gelu(rows: int, inner: int, outer: int, bias: bool) -> None:
    torch.manual_seed(5)
    layer = torch.nn.Linear(inner, outer, bias=bias).to("cuda")
    start = torch.randn(rows, inner, device="cuda")

    def step() -> list[Any]:
        x = start.clone().requires_grad_()
        for weight in layer.parameters():
            weight.grad = None
        y = F.gelu(layer(x), approximate="tanh")
        (F.linear(y, layer.weight.t()) ** 2).mean().backward()
        return [
            t.detach().cpu().numpy() for t in (y, x.grad, *(w.grad for w in layer.parameters()))
        ]

    with products("ieee"):
        wanted = step()
    with products("bf16x6"):
        found = step()
        with fuse.recording() as made:
            fused = step()
    assert made.report.rewrites.get("linear_gelu", 0) == 1
    for want, plain, joined in zip(wanted, found, fused, strict=True):
        for got in (plain, joined):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5 * np.abs(want).max())


def test_the_same_bits_in_every_run() -> None:
    torch.manual_seed(6)
    a, b = torch.randn(768, 8192, device="cuda"), torch.randn(8192, 256, device="cuda")
    with products("bf16x6"):
        first = (a @ b).cpu().numpy()
        assert all((a @ b).cpu().numpy().tobytes() == first.tobytes() for _ in range(5))


def test_plain_arithmetic_may_be_had() -> None:
    """The three ways are different arithmetic, so their bits differ; TF32's by far."""
    torch.manual_seed(7)
    a, b = torch.randn(1024, 1024, device="cuda"), torch.randn(1024, 1024, device="cuda")
    results = {}
    for how in ("ieee", "bf16x6", "tf32"):
        with products(how):
            results[how] = (a @ b).cpu().numpy()
    assert np.abs(results["ieee"] - results["bf16x6"]).max() < 1e-3
    assert not np.array_equal(results["ieee"], results["bf16x6"])
    assert np.abs(results["ieee"] - results["tf32"]).max() > 1e-3


@pytest.mark.parametrize("how", ["ieee", "bf16x6"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("batch", "heads", "shared", "queries", "keys", "width"),
    [
        (3, 8, 8, 128, 128, 32),
        (2, 4, 2, 77, 200, 64),
        (1, 6, 1, 200, 77, 20),
        (2, 2, 2, 64, 64, 128),
    ],
)
def test_attention(
    how: str, causal: bool, batch: int, heads: int, shared: int, queries: int, keys: int, width: int
) -> None:
    """Output and gradients against the formula in float64."""
    rng = np.random.default_rng(8)
    sizes = [(batch, heads, queries, width)] + [(batch, shared, keys, width)] * 2
    arrays = [rng.standard_normal(size, np.float32) for size in (*sizes, sizes[0])]
    results = []
    for dtype, device in (("float64", "cpu"), ("float32", "cuda")):
        q, k, v, grad = (torch.from_numpy(x).to(getattr(torch, dtype)).to(device) for x in arrays)
        for leaf in (q, k, v):
            leaf.requires_grad_(True)
        with products(how):
            out = F.scaled_dot_product_attention(
                q, k, v, is_causal=causal, enable_gqa=heads != shared
            )
            out.backward(grad)
        tensors = (out, q.grad, k.grad, v.grad)
        results.append([t.detach().cpu().numpy().astype(np.float64) for t in tensors])
    for wanted, found in zip(*results, strict=True):
        assert np.abs(found - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("how", ["bf16x6", "ieee"])
@pytest.mark.parametrize(
    ("rows", "outputs", "inputs"), [(16384, 384, 128), (8200, 132, 1028), (300, 36, 20), (5, 3, 7)]
)
def test_bias_gradients_come_with_those_of_weights(
    how: str, rows: int, outputs: int, inputs: int
) -> None:
    numbers = np.random.default_rng(rows)
    x, grad = (numbers.standard_normal((rows, n), np.float32) for n in (inputs, outputs))
    weight = torch.nn.Parameter(torch.zeros(outputs, inputs, device="cuda"))
    bias = torch.nn.Parameter(torch.zeros(outputs, device="cuda"))
    found = []
    for _ in range(2):
        weight.grad = bias.grad = None
        with products(how):
            F.linear(cuda(x), weight, bias).backward(cuda(grad))
        found.append((weight.grad.cpu().numpy(), bias.grad.cpu().numpy()))
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    exact = grad.astype(np.float64)
    bound = 2.0**-20 * np.abs(exact).sum(0)
    assert (np.abs(found[0][1] - exact.sum(0)) <= bound).all()
    wanted = exact.T @ x.astype(np.float64)
    magnitude = np.abs(exact).T @ np.abs(x).astype(np.float64)
    assert (np.abs(found[0][0] - wanted) <= 2.0**-18 * magnitude).all()
