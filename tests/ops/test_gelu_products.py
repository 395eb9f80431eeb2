"""Products of 16-bit matrices with GELU, its gradient and column sums in their kernel."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from own_products import products_of

import vibetensor
import vibetensor.torch as torch
from vibetensor import fuse

F = torch.nn.functional
pytestmark = pytest.mark.cuda
TYPES = ["bfloat16", "float16"]
UNITS = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # half a unit in the last place, at most
# Rows, columns and k that have kernels here; then others: few tiles, lines that are not whole.
OWN = [
    (2049, 2056, 72), (33800, 8, 64), (17000, 200, 264), (300, 12000, 136), (17000, 192, 8),
    (2200, 1920, 104), (2432, 1920, 104),
]  # fmt: skip
LARGE = (9000, 1520, 136)  # its last wide tile is cut
CASES = [
    *itertools.product([*OWN, (64, 64, 64), (1025, 1500, 332)], TYPES, ["own", "cublaslt"]),
    (LARGE, "bfloat16", "own"),
]
TANH = 3e-3  # what the hardware's tanh, good to 11 bits, may be off by, and more


def rounded(x: np.ndarray, dtype: str) -> tuple[torch.Tensor, np.ndarray]:
    """On the GPU in that type, and the same numbers as float64."""
    t = torch.from_numpy(x.astype(np.float32)).to(getattr(torch, dtype))
    return t.to("cuda"), numbers(t)


def numbers(t: torch.Tensor) -> np.ndarray:
    return t.detach().float().cpu().numpy().astype(np.float64)


def bits(t: torch.Tensor) -> bytes:
    return t.detach().float().cpu().numpy().tobytes()


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)))


def slope(x: np.ndarray) -> np.ndarray:
    t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x))
    inner = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x * x)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner


def close(found: torch.Tensor, wanted: np.ndarray, dtype: str, noise: Any) -> None:
    """Rounded once, with `noise` beside."""
    error = np.abs(numbers(found) - wanted)
    allowed = 1.01 * UNITS[dtype] * np.abs(wanted) + noise
    assert (error <= allowed).all(), (error - allowed).max()


def inputs(m: int, n: int, k: int, dtype: str) -> list[tuple[torch.Tensor, np.ndarray]]:
    rng = np.random.default_rng(m + n + k)
    return [
        rounded(rng.standard_normal((m, k)), dtype),
        rounded(rng.standard_normal((n, k)) * 2 / np.sqrt(k), dtype),
        rounded(rng.standard_normal(n), dtype),
    ]


@pytest.mark.parametrize(("shape", "dtype", "how"), CASES)
def test_forward(shape: tuple[int, int, int], dtype: str, how: str) -> None:
    m, n, k = shape
    (x, x64), (w, w64), (b, b64) = inputs(m, n, k, dtype)
    product = x64 @ w64.T
    noise = TANH if n % 8 == 0 else 8 * UNITS[dtype]  # or rounded twice
    with products_of(how):
        for bias, added in ((b, b64), (None, 0.0)):
            with torch.no_grad():
                plain = F.linear_gelu(x, w, bias)
            close(plain, gelu(product + added), dtype, noise)
            with fuse.recording() as made:
                pre = F.linear(x, w, bias)
                out = F.gelu(pre, approximate="tanh")
                later = pre * 1.0
            close(out, gelu(product + added), dtype, noise)
            close(pre, product + added, dtype, 1e-4)
            assert bits(later) == bits(pre)
            assert made.report.rewrites.get("linear_gelu", 0) == int(n % 8 == 0)
            assert how != "own" or shape not in (*OWN, LARGE) or bits(out) == bits(plain)


@pytest.mark.parametrize(("shape", "dtype", "how"), CASES)
def test_gradient_and_column_sums(shape: tuple[int, int, int], dtype: str, how: str) -> None:
    m, n, k = shape
    (grad, grad64), (w, w64), _ = inputs(m, n, k, dtype)
    pre, pre64 = rounded(np.random.default_rng(1).standard_normal((m, n)) * 2, dtype)
    weight = w.t().contiguous()  # of the layer behind: [k, n]

    def work() -> list[torch.Tensor]:
        h = pre.clone().requires_grad_()
        F.linear(F.gelu(h, approximate="tanh"), weight).backward(grad)
        return [h.grad, h.grad.sum(0)]

    with products_of(how), fuse.recording() as made:
        found, sums = work()
    for name in ("gelu_backward", "column_sums"):
        assert made.report.rewrites.get(name, 0) == int(n % 8 == 0)
    wanted = (grad64 @ w64.T) * slope(pre64)
    size = np.abs(wanted).max()
    exact = how == "own" and shape in (*OWN, LARGE)
    close(found, wanted, dtype, (TANH + (0 if exact else 3 * UNITS[dtype])) * size)
    # Of numbers that are each off by a little, the sum is by about the root of their count.
    close(sums, wanted.sum(0), dtype, TANH * np.sqrt(m) * size)
    # These are not rounded before they are added up, others are.
    total = numbers(found).sum(0)
    close(sums, total, dtype, 8 * UNITS[dtype] * np.sqrt(m) * size if exact else 2e-5 * m * size)


@pytest.mark.parametrize("shape", [*OWN, LARGE])
def test_slope_on_the_way_forward(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    (x, x64), (w, w64), (b, b64) = inputs(m, n, k, "bfloat16")
    pre = x64 @ w64.T + b64
    for weight in (w, b):
        weight.requires_grad_()
    (shrink, shrink64), (grad, grad64) = (
        rounded(np.random.default_rng(i).standard_normal(size), "bfloat16")
        for i, size in enumerate(((k, n), (m, k)))
    )
    ones = torch.ones(m, n, device="cuda", dtype=w.dtype)

    def work(through: bool) -> list[torch.Tensor]:
        seen: list[torch.Tensor] = []
        h = F.linear(x, w, b)
        h.register_hook(seen.append)
        out = F.gelu(h, approximate="tanh")
        del h
        b.grad = None
        if through:
            F.linear(out, shrink).backward(grad)
        else:
            out.backward(ones)
        return [out.detach(), *seen, b.grad]

    with products_of("own"):
        with fuse.recording() as made:
            out, found, sums = work(False)
        assert made.report.rewrites["gelu_slope"] == 1
        close(out, gelu(pre), "bfloat16", TANH)
        close(found, slope(pre), "bfloat16", TANH)
        with fuse.recording() as made:
            again, found, sums = work(True)
        assert made.report.rewrites["gelu_slope"] == made.report.rewrites["gelu_backward"] == 1
        assert bits(again) == bits(out)
        with fuse.recording({"gelu_slope": False}):
            plain, before, _ = work(True)
        eager = work(True)[1]
    wanted = (grad64 @ shrink64) * slope(pre)
    size = np.abs(wanted).max()
    close(plain, gelu(pre), "bfloat16", TANH)
    close(found, wanted, "bfloat16", (TANH + UNITS["bfloat16"]) * size)
    close(sums, wanted.sum(0), "bfloat16", TANH * np.sqrt(m) * size)
    # A slope in float16 is nearer than one of what was rounded to bfloat16.
    errors = [np.sqrt(((numbers(each) - wanted) ** 2).sum()) for each in (found, before, eager)]
    assert errors[0] <= 1.02 * errors[1] < errors[2], errors


@pytest.mark.parametrize("dtype", TYPES)
def test_memory_that_is_not_aligned(dtype: str) -> None:
    m, n, k = 4352, 1024, 128
    (x, x64), (w, w64), (b, b64) = inputs(m, n, k, dtype)
    wanted = gelu(x64 @ w64.T + b64)
    shifted = torch.empty(n * k + 3, device="cuda", dtype=w.dtype)[3:].view(n, k)
    shifted.copy_(w)
    wide = torch.empty(m, k + 4, device="cuda", dtype=w.dtype)[:, :k]
    wide.copy_(x)
    odd_bias = torch.empty(n + 1, device="cuda", dtype=w.dtype)[1:]
    odd_bias.copy_(b)
    with torch.no_grad():
        across = w.t().contiguous().t()
        for case in ((x, shifted, b), (wide, w, b), (x, w, odd_bias), (x, across, b)):
            close(F.linear_gelu(*case), wanted, dtype, 8 * UNITS[dtype])


def test_large_and_special_numbers() -> None:
    n = 4096
    values = [0.0, -0.0, 1e-30, 3.0, -3.0, -9.0, 12.0, -40.0, 1e4, -1e4, 1e18, float("nan")]
    x = np.zeros((n, 1024))
    x[: len(values), 0] = values
    eye = np.zeros((1024, 1024))
    eye[:, 0] = 1
    (a, a64), (w, _) = rounded(x, "bfloat16"), rounded(eye, "bfloat16")
    with products_of("own"), torch.no_grad():
        found = numbers(F.linear_gelu(a, w))[:, 5]
    wanted = gelu(a64[:, 0])
    assert np.isnan(found[len(values) - 1]) and not np.isnan(found[: len(values) - 1]).any()
    np.testing.assert_allclose(
        found[: len(values) - 1], wanted[: len(values) - 1], rtol=2.0**-8, atol=TANH
    )


@pytest.mark.parametrize("dtype", TYPES)
def test_the_same_bits_in_every_run_and_in_a_graph(dtype: str) -> None:
    def losses(captured: bool, fused: bool) -> list[bytes]:
        torch.manual_seed(3)
        layers = [torch.nn.Linear(256, 1032), torch.nn.Linear(1032, 256)]
        grow, shrink = (layer.to("cuda").to(getattr(torch, dtype)) for layer in layers)
        weights = [*grow.parameters(), *shrink.parameters()]
        optimizer = torch.optim.SGD(weights, lr=1e-2)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            out = shrink(F.linear_gelu(x, grow.weight, grow.bias))
            loss = (out * out).mean()
            loss.backward()
            optimizer.step()
            return loss

        run = vibetensor.capture(step, fuse=fused) if captured else step
        found = []
        for _ in range(6):
            found.append(bits(run(torch.randn(8200, 256, device="cuda").to(grow.weight.dtype))))
        assert not captured or run.replays > 0, run.reason
        return [*found, *(bits(p) for p in weights)]

    with products_of("own"):
        assert losses(False, False) == losses(True, False) == losses(True, False)
        assert losses(True, True) == losses(True, True)


def test_whose_kernels_is_said_and_chosen() -> None:
    matmul = torch.backends.cuda.matmul
    assert matmul.gelu_products in ("own", "cublaslt")
    with pytest.raises(ValueError, match="gelu_products: expected 'own' or 'cublaslt'"):
        matmul.gelu_products = "other"
    with products_of("cublaslt"):
        assert matmul.gelu_products == "cublaslt"
