"""Dropout drops what its random words say: as often as asked, neighbours independently, the same
elements on CPU and CUDA and in both passes.
"""

from __future__ import annotations

import math

import pytest

import vibetensor.torch as torch

F = torch.nn.functional
places = pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])


def kept(n: int, p: float, place: str) -> torch.Tensor:
    """1 where an element is kept, as float64 on the CPU."""
    torch.manual_seed(7)
    out = F.dropout(torch.ones(n, device=place), p)
    scale = 1 / (1 - p)
    assert ((out == 0) | ((out - scale).abs() < 1e-6 * scale)).all()
    return (out != 0).to(torch.float64).cpu()


@places
@pytest.mark.parametrize("p", [0.5, 0.1, 1e-4, 0.999, 1 / 3])
def test_frequencies(p: float, place: str) -> None:
    """Within 5 standard deviations, alone and with elements up to 9 further on."""
    n = 1 << 21
    mask = kept(n, p, place)
    q = 1 - p
    assert abs(float(mask.sum()) - n * q) < 5 * math.sqrt(n * p * q)
    for step in (1, 2, 3, 7, 8, 9):
        both = float((mask[step:] * mask[:-step]).sum())
        count = n - step
        # Overlapping pairs: their variance with the covariances of those that share an element.
        variance = count * (q * q * (1 - q * q) + 2 * q**3 * p)
        assert abs(both - count * q * q) < 5 * math.sqrt(variance)
    for start in (0, 1):  # both halves of a word
        pairs = mask[start::2]
        assert abs(float(pairs.sum()) - pairs.numel() * q) < 5 * math.sqrt(pairs.numel() * p * q)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 100, 4099, 100_000])
def test_cuda_drops_what_the_cpu_drops(n: int, offset: int, dtype: str) -> None:
    x = torch.randn(n + offset).to(getattr(torch, dtype))
    for p in (0.0, 0.2, 0.9, 1.0):
        torch.manual_seed(5)
        expected = F.dropout(x[offset:], p)
        after = torch.rand(3)
        torch.manual_seed(5)
        found = F.dropout(x.cuda()[offset:], p)
        assert torch.equal(torch.rand(3, device="cuda").cpu(), after)
        assert torch.equal(found.cpu(), expected)


@places
@pytest.mark.parametrize("n", [5, 1000, 4099])
def test_the_gradient_drops_the_same(n: int, place: str) -> None:
    x = torch.ones(n, device=place).requires_grad_()
    out = F.dropout(x, 0.4)
    out.backward(torch.ones(n, device=place))
    assert x.grad is not None and torch.equal(x.grad, out.detach())


@places
def test_what_is_not_finite(place: str) -> None:
    x = torch.full((64,), float("inf"), device=place)
    out = F.dropout(x, 0.5)
    assert ((out == 0) | (out == float("inf"))).all()
    assert (F.dropout(torch.ones(4096, device=place), 1.0) == 0).all()
