"""A kernel that the driver refuses to start: the error names operator, shapes and device."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import vibetensor.torch as vt

pytestmark = pytest.mark.cuda


@contextmanager
def refused_launches() -> Iterator[None]:
    """While another stream is captured in the mode "global", none may start on the default one."""
    driver = ctypes.CDLL("libcuda.so.1")
    stream, graph = ctypes.c_void_p(), ctypes.c_void_p()
    assert driver.cuStreamCreate(ctypes.byref(stream), 0) == 0
    assert driver.cuStreamBeginCapture_v2(stream, 0) == 0
    try:
        yield
    finally:
        driver.cuStreamEndCapture(stream, ctypes.byref(graph))
        assert driver.cuStreamDestroy_v2(stream) == 0


def test_it_names_what_the_operator_was_given() -> None:
    x, y = vt.ones(2, 3, device="cuda"), vt.ones(3, device="cuda")
    assert vt.cuda.current_stream() == vt.cuda.default_stream()
    (x + y).sum().item()  # its memory is cached from here on
    with (
        refused_launches(),
        pytest.raises(RuntimeError, match=r"add.*f32\[2, 3\]@cuda:0, f32\[3\]@cuda:0"),
    ):
        x + y
    assert (x + y).sum().item() == 12


def test_it_names_what_a_factory_makes_and_a_product_takes() -> None:
    layer, x = vt.nn.Linear(3, 4, device="cuda"), vt.ones(2, 3, device="cuda")
    layer(x), vt.rand(5, 7, device="cuda"), vt.full((5, 7), 2.0, device="cuda")
    vt.cuda.synchronize()
    with refused_launches():
        with pytest.raises(RuntimeError, match=r"rand\(f32\[5, 7\]@cuda:0\)"):
            vt.rand(5, 7, device="cuda")
        with pytest.raises(RuntimeError, match=r"zeros\(f32\[5, 7\]@cuda:0\)"):
            vt.zeros(5, 7, device="cuda")
        with pytest.raises(RuntimeError, match=r"full\(f32\[5, 7\]@cuda:0\)"):
            vt.full((5, 7), 2.0, device="cuda")
        with pytest.raises(RuntimeError, match=r"linear\(f32\[2, 3\]@cuda:0, f32\[4, 3\]"):
            layer(x)
    vt.cuda.synchronize()


def test_it_names_the_gradients_of_a_node() -> None:
    x = vt.ones(2, 3, device="cuda", requires_grad=True)
    gradient = vt.ones(2, 3, device="cuda")
    (x * 2.0).exp().backward(gradient)  # its memory is cached from here on
    y = (x * 2.0).exp()
    vt.cuda.synchronize()
    with refused_launches(), pytest.raises(RuntimeError, match=r"\(.*f32\[2, 3\]@cuda:0"):
        y.backward(gradient)
    vt.cuda.synchronize()
