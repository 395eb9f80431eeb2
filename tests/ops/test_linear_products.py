"""Large bfloat16 products, with a bias and with the residual stream added in their kernel."""

from __future__ import annotations

import numpy as np
import pytest
from own_products import products_of

import vibetensor.torch as torch
from vibetensor import fuse

F = torch.nn.functional
pytestmark = pytest.mark.cuda
# Rows, columns and k that have kernels here: rows and k that end within a tile among them.
SHAPES = [(25400, 768, 512), (9001, 2304, 776), (17000, 1152, 3080), (25472, 768, 512)]


def numbers(t: torch.Tensor) -> np.ndarray:
    return t.detach().float().cpu().numpy().astype(np.float64)


def bits(t: torch.Tensor) -> bytes:
    return t.detach().float().cpu().numpy().tobytes()


class Layer:
    """Operands, and float64 results of some rows."""

    def __init__(self, m: int, n: int, k: int, bias: bool) -> None:
        torch.manual_seed(m)
        self.x, self.weight, self.bias, self.stream = (
            torch.randn(*sizes, device="cuda").to(torch.bfloat16)
            for sizes in ((m, k), (n, k), (n,), (m, n))
        )
        rng = np.random.default_rng(0)
        self.rows = np.unique([0, 127, 128, m - 1, *rng.integers(0, m, 200)])
        a, w = numbers(self.x)[self.rows], numbers(self.weight)
        shift = numbers(self.bias) if bias else 0.0
        self.product = a @ w.T + shift
        self.total = self.product + numbers(self.stream)[self.rows]
        self.noise = 2.0**-20 * (np.abs(a) @ np.abs(w).T)
        if not bias:
            self.bias = None

    def check(self, found: torch.Tensor, exact: np.ndarray) -> None:
        """Rounded once."""
        error = np.abs(numbers(found)[self.rows] - exact)
        assert (error <= 1.01 * 2.0**-8 * np.abs(exact) + self.noise).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bias_is_added_before_rounding(shape: tuple[int, int, int]) -> None:
    layer = Layer(*shape, bias=True)
    for whose in ("own", "cublaslt"):
        with products_of(whose):
            out = F.linear(layer.x, layer.weight, layer.bias)
            layer.check(out, layer.product)
            assert bits(out) == bits(F.linear(layer.x, layer.weight, layer.bias))


def test_rows_with_gaps_between_them() -> None:
    m, n, k = 17024, 1152, 520
    layer = Layer(m, n, k, bias=True)
    wide, weights = (
        torch.empty(rows, k + 24, device="cuda", dtype=torch.bfloat16)[:, 8 : k + 8]
        for rows in (m, n)
    )
    wide.copy_(layer.x)
    weights.copy_(layer.weight)
    layer.check(F.linear(wide, weights, layer.bias), layer.product)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_alone_whose_second_matrix_lies_in_rows(shape: tuple[int, int, int]) -> None:
    layer = Layer(*shape, bias=False)
    across = layer.weight.t().contiguous()
    for whose in ("own", "cublaslt"):
        with products_of(whose):
            out = torch.matmul(layer.x, across)
            layer.check(out, layer.product)
            assert bits(out) == bits(torch.matmul(layer.x, across))
    across = torch.empty(shape[2], shape[1] + 8, device="cuda", dtype=torch.bfloat16)[:, 8:]
    across.copy_(layer.weight.t())
    layer.check(torch.matmul(layer.x, across), layer.product)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_the_residual_stream_is_added_before_rounding(
    shape: tuple[int, int, int], bias: bool, norm: str
) -> None:
    layer = Layer(*shape, bias=bias)
    width = shape[1]

    def work() -> list[torch.Tensor]:
        total = layer.stream + F.linear(layer.x, layer.weight, layer.bias)
        if norm == "layer":
            return [total, F.layer_norm(total, (width,))]
        return [total, F.rms_norm(total, (width,))]

    with products_of("own"):
        with fuse.recording({"linear_add": False}) as made:
            apart = work()
        assert made.report.rewrites == {"add_norm": 1}
        with fuse.recording() as made:
            total, out = work()
        assert made.report.rewrites == {"add_norm": 1, "linear_add": 1}
        with fuse.recording():
            assert [bits(t) for t in work()] == [bits(total), bits(out)]
    layer.check(total, layer.total)
    normed = F.layer_norm if norm == "layer" else F.rms_norm
    assert bits(out) == bits(normed(total, (width,)))
    largest = np.abs(layer.total).max()
    np.testing.assert_allclose(numbers(total), numbers(apart[0]), rtol=2**-6, atol=2**-7 * largest)
    with products_of("cublaslt"), fuse.recording() as made:
        work()
    assert made.report.rewrites == {"add_norm": 1}


def test_small_products_are_added_later() -> None:
    x, weight, stream = (
        torch.randn(*sizes, device="cuda").to(torch.bfloat16)
        for sizes in ((512, 512), (768, 512), (512, 768))
    )
    with fuse.recording() as made:
        F.layer_norm(stream + F.linear(x, weight), (768,))
    assert made.report.rewrites == {"add_norm": 1}
