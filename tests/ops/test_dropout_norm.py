"""Dropout, residual sum and norm in one pass have the bits of the three after each other."""

from __future__ import annotations

from typing import Any

import pytest

import vibetensor.torch as torch

F = torch.nn.functional
places = pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])


def run(
    place: str, shape: tuple[int, ...], dtype: Any, norm: str, p: float, apart: bool
) -> list[Any]:
    torch.manual_seed(3)
    given = [torch.randn(*shape) for _ in range(2)] + [torch.randn(shape[-1]) for _ in range(2)]
    x, residual, weight, bias = (t.to(dtype).to(place).requires_grad_() for t in given)
    factors = [torch.randn(*shape).to(dtype).to(place) for _ in range(2)]
    torch.manual_seed(11)
    dropped, rest = (F.dropout(x, p), 0.0) if apart else (x, p)
    if norm == "layer":
        out, total = F.add_layer_norm(dropped, residual, shape[-1:], weight, bias, dropout_p=rest)
    else:
        out, total = F.add_rms_norm(dropped, residual, shape[-1:], weight, dropout_p=rest)
    after = torch.rand(4, device=place)  # from where the random numbers go on
    ((out * factors[0]).sum() + (total * factors[1]).sum()).backward()
    grads = [t.grad for t in (x, residual, weight, bias) if t.grad is not None]
    return [t.detach().cpu() for t in (out, total, after, *grads)]


@places
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize(
    "shape", [(5, 8), (3, 4, 768), (2, 1000), (9, 7), (3, 30), (2, 20000)], ids=str
)
def test_the_bits_are_those_of_three_operators(
    shape: tuple[int, ...], norm: str, dtype: str, place: str
) -> None:
    for p in (0.3, 1.0):
        one = run(place, shape, getattr(torch, dtype), norm, p, apart=False)
        three = run(place, shape, getattr(torch, dtype), norm, p, apart=True)
        assert len(one) == len(three) == (7 if norm == "layer" else 6)
        for a, b in zip(one, three, strict=True):
            assert torch.equal(a, b)


@places
def test_without_a_gradient_of_the_input(place: str) -> None:
    x = torch.randn(4, 16, device=place)
    residual = torch.randn(4, 16, device=place).requires_grad_()
    out, _ = F.add_layer_norm(x, residual, [16], dropout_p=0.5)
    (out * out).sum().backward()
    assert residual.grad is not None and x.grad is None
    with pytest.raises(ValueError, match=r"dropout_p has to be between 0 and 1, but got 1\.5"):
        F.add_layer_norm(x, residual, [16], dropout_p=1.5)
