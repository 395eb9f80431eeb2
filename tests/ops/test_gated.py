"""Gated activations of halves and of strided matrices; rotary embedding in every layout."""

from __future__ import annotations

from typing import Any

import formulas
import pytest
from operator_cases import to_ours
from test_norm_rows import close, given, on, places
from vibetensor.torch.nn import functional as F

import vibetensor.torch as vt
from vibetensor.torch import nn

CASES = {
    "swiglu": (F.swiglu, formulas.swiglu),
    "geglu": (F.geglu, formulas.geglu),
}


@places
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [1, 3, 8, 96, 1000])
def test_halves_of_one_tensor(place: str, name: str, n: int) -> None:
    mine, theirs = CASES[name]
    for dtype in ("float32", "bfloat16"):
        x, seed = given(2, 5, 2 * n, dtype=dtype, seed=1), given(2, 5, n, dtype=dtype, seed=2)
        exact = x.double().requires_grad_()
        expected = theirs(*exact.chunk(2, -1))
        expected.backward(seed.double())
        ours = on(place, x, 0)
        whole = mine(ours)
        vt.autograd.backward([whole], [to_ours(seed).to(place)])
        assert exact.grad is not None
        close(whole, expected.detach(), dtype)
        close(ours.grad, exact.grad, dtype)
        # Views of the halves are read where they lie.
        again = on(place, x, 0)
        vt.autograd.backward([mine(*again.chunk(2, -1))], [to_ours(seed).to(place)])
        close(again.grad, exact.grad, dtype)


def test_halves_must_be_even() -> None:
    with pytest.raises(RuntimeError, match=r"swiglu.*even"):
        F.swiglu(vt.ones(2, 3))
    with pytest.raises(RuntimeError, match=r"geglu.*one shape"):
        F.geglu(vt.ones(2, 4), vt.ones(2, 3))


LAYOUTS = {
    "heads first": (lambda x: x, -2),
    "tokens first": (lambda x: x.transpose(1, 2), -3),
    "sliced": (lambda x: x[..., 1:7:2, :], -2),
    "no heads": (lambda x: x[0, 0], 0),
}


@places
@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "interleaved"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("features", [2, 6, 32, 128])
def test_rope(place: str, layout: str, features: int, interleaved: bool) -> None:
    arrange, dim = LAYOUTS[layout]
    for dtype, offset in (("float64", 0), ("float32", 1), ("bfloat16", 0)):
        x = given(2, 3, 9, features, dtype=dtype, seed=1)
        exact = x.double().requires_grad_()
        expected = formulas.rope(arrange(exact), 500.0, dim, 3000, interleaved)
        seed = given(*expected.shape, dtype=dtype, seed=2)
        expected.backward(seed.double())
        mine = on(place, x, offset)
        out = F.rope(arrange(mine), base=500.0, seq_dim=dim, offset=3000, interleaved=interleaved)
        vt.autograd.backward([out], [to_ours(seed).to(place)])
        assert exact.grad is not None
        close(out, expected.detach(), dtype)
        close(mine.grad, exact.grad, dtype)


def test_rope_keeps_the_order_in_memory() -> None:
    x = vt.ones(2, 5, 3, 8).transpose(1, 2)
    assert F.rope(x).stride() == x.stride()


def test_rope_has_every_derivative() -> None:
    x = vt.ones(4, 8, dtype=vt.float64).requires_grad_()
    (first,) = vt.autograd.grad(F.rope(x).square().sum(), x, create_graph=True)
    first.sum().backward()
    assert vt.allclose(x.grad, vt.full((4, 8), 2.0, dtype=vt.float64))


def test_rotary_module_continues_at_an_offset() -> None:
    x: Any = vt.randn(1, 2, 6, 8)
    module = nn.RotaryEmbedding(base=100.0)
    whole, tail = module(x), module(x[:, :, 4:], offset=4)
    assert vt.allclose(whole[:, :, 4:], tail)
    assert "base=100.0" in repr(module)


def test_rope_refuses_what_has_no_tokens() -> None:
    with pytest.raises(RuntimeError, match=r"rope.*even"):
        F.rope(vt.ones(2, 3))
    with pytest.raises(RuntimeError, match=r"rope.*seq_dim"):
        F.rope(vt.ones(2, 4), seq_dim=-1)


@places
def test_operands_expanded_over_a_middle_dimension(place: str) -> None:
    gate, up = given(3, 1, 8, dtype="float32", seed=1), given(3, 5, 8, dtype="float32", seed=2)
    wide = gate.double().expand(3, 5, 8)
    ours = on(place, gate, 0)
    close(
        F.swiglu(ours.expand(3, 5, 8), to_ours(up).to(place)),
        formulas.swiglu(wide, up.double()),
        "float32",
    )
    x = on(place, up, 0)
    exact = up.double().requires_grad_()
    F.swiglu(x, x).sum(1).sum().backward()
    formulas.swiglu(exact, exact).sum(1).sum().backward()
    assert exact.grad is not None
    close(x.grad, exact.grad, "float32")


def test_the_second_derivative_of_a_gate_is_refused() -> None:
    x = vt.ones(2, 4, requires_grad=True)
    with pytest.raises(NotImplementedError, match="second derivative"):
        vt.autograd.grad(F.swiglu(x, x).sum(), x, create_graph=True)
