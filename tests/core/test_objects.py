"""Tensors as Python objects: identity, life, subclasses, copies, attributes, text."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest
import torch as pt
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import vibetensor.torch as vt
from vibetensor import _C


class Tagged(vt.Tensor):
    """A subclass with an attribute."""

    tag: str


def live_bytes() -> int:
    gc.collect()
    return int(_C.memory_stats(vt.device("cpu"))["allocated"])


# --- identity and life ---


def test_one_tensor_has_one_object() -> None:
    x = vt.ones(2, requires_grad=True)
    y = x * 2
    assert y.add_(1) is y
    y.sum().backward()
    grad = x.grad
    assert x.grad is grad
    grads = [vt.ones(2) for _ in range(3)]
    x.grad = grads[1]
    assert x.grad is grads[1]


def test_objects_are_reused_but_never_shared() -> None:
    first = vt.ones(1)
    address = id(first)
    del first
    again = [vt.zeros(1) for _ in range(4)]
    assert address in [id(t) for t in again]
    assert len({id(t) for t in again}) == 4


def test_nothing_leaks() -> None:
    model = vt.nn.Linear(8, 8)
    x = vt.randn(16, 8)

    def step() -> None:
        model.zero_grad()
        loss = (model(x)[1:, ::2] ** 2 + 1.0).mean()
        loss.backward()
        model.weight.grad.sum().item()
        repr(loss)
        with pytest.raises(RuntimeError):
            vt.ones(3) + vt.ones(4)

    for _ in range(3):
        step()
    before, objects = live_bytes(), len(gc.get_objects())
    for _ in range(50):
        step()
    assert live_bytes() == before
    assert abs(len(gc.get_objects()) - objects) < 20


@pytest.mark.parametrize(
    "expression",
    [
        "t + t", "t + 1.0", "1.0 - t", "t[0]", "t[1:, None]", "t[[0, 1]]", "t.view(6)", "t.shape",
        "t.dtype", "t.device", "t.tolist()", "t.numpy()", "t.split(1)", "t.max(1)", "t.sum(dim=1)",
        "t.to(vt.float64)", "t == t", "-t", "abs(t)", "t.T", "t.grad", "iter(t)", "vt.cat([t, t])",
        "vt.zeros(2, 3, dtype=vt.int64)", "vt.tensor([[1, 2], [3, 4]])", "t.__dlpack__()",
    ],
)  # fmt: skip
def test_references_balance(expression: str) -> None:
    t = vt.ones(2, 3)
    watched = [t, vt.float64, vt.int64, vt.device("cpu"), None, True, vt.Tensor, _C.Size]
    code = compile(expression, "expression", "eval")
    names = {"t": t, "vt": vt}
    eval(code, names)
    gc.collect()
    before = [sys.getrefcount(w) for w in watched]
    bytes_before = live_bytes()
    for _ in range(300):
        eval(code, names)
    after = [sys.getrefcount(w) for w in watched]
    assert max(abs(a - b) for a, b in zip(after, before, strict=True)) < 50
    assert live_bytes() == bytes_before


def test_weak_references() -> None:
    t = vt.ones(2)
    gone: list[Any] = []
    ref = weakref.ref(t, gone.append)
    assert ref() is t
    del t
    assert ref() is None and len(gone) == 1


def test_hash_is_by_identity() -> None:
    a, b = vt.ones(2), vt.ones(2)
    assert len({a, b, a}) == 2 and {a: 1}[a] == 1


def test_threads() -> None:
    shared = vt.ones(64)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(500):
                t = (shared + 1.0)[3:].sum()
                assert t.item() == 122
                big = vt.ones(50_000) * 2
                assert big[-1].item() == 2
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- subclasses ---


def test_subclasses() -> None:
    data = vt.arange(3.0)
    t = Tagged(data)
    t.tag = "x"
    assert type(t) is Tagged and isinstance(t, vt.Tensor) and t.tag == "x"
    assert t.data_ptr() == data.data_ptr() and not t.requires_grad
    assert type(t + 1) is vt.Tensor and (t + 1).tolist() == [1, 2, 3]
    assert (1 + t).tolist() == [1, 2, 3] and t[1].item() == 1
    t.requires_grad_()
    (t * t).sum().backward()
    assert t.grad.tolist() == [0, 2, 4]
    ref = weakref.ref(t)
    del t
    gc.collect()
    assert ref() is None
    made = vt.Tensor._make_subclass(Tagged, data, True)
    assert type(made) is Tagged and made.requires_grad and made.is_leaf
    with pytest.raises(TypeError):
        vt.Tensor._make_subclass(int, data)


def test_a_subclass_can_be_in_a_cycle() -> None:
    t = Tagged(vt.ones(1000))
    t.tag = t  # type: ignore[assignment]
    ref = weakref.ref(t)
    del t
    gc.collect()
    assert ref() is None


def test_a_dying_object_can_be_seen() -> None:
    class Last(vt.Tensor):
        def __del__(self) -> None:
            seen.append(self.sum().item())

    seen: list[float] = []
    x = Last(vt.ones(3))
    del x
    gc.collect()
    assert seen == [3.0]


def test_constructor() -> None:
    assert tuple(vt.Tensor().shape) == (0,)
    assert tuple(vt.Tensor(2, 3).shape) == (2, 3)
    assert vt.Tensor([1, 2]).dtype is vt.float32
    with pytest.raises(TypeError):
        vt.Tensor("x")
    with pytest.raises(TypeError):
        vt.Tensor(2, nothing=1)


# --- copies ---


def test_deepcopy_and_pickle() -> None:
    for dtype in (vt.float32, vt.bfloat16, vt.int64, vt.bool):
        t = vt.arange(6).view(2, 3).t().to(dtype)
        for other in (copy.deepcopy(t), pickle.loads(pickle.dumps(t))):
            assert (
                other.dtype is dtype
                and bool((other == t).all())
                and other.data_ptr() != t.data_ptr()
            )
    leaf = vt.ones(2, requires_grad=True)
    (leaf * 3).sum().backward()
    twin = copy.deepcopy(leaf)
    assert twin.requires_grad and twin.grad.tolist() == [3, 3]
    assert pickle.loads(pickle.dumps(leaf)).requires_grad
    tagged = Tagged(vt.ones(2))
    tagged.tag = "kept"
    assert copy.deepcopy(tagged).tag == "kept" and type(copy.deepcopy(tagged)) is Tagged
    assert pickle.loads(pickle.dumps(tagged)).tag == "kept"
    pair = [leaf, leaf]
    twins = copy.deepcopy(pair)
    assert twins[0] is twins[1]
    with pytest.raises(RuntimeError, match="leaves"):
        copy.deepcopy(leaf * 2)
    for constant in (vt.float32, vt.device("cpu:0"), vt.ones(2, 3).shape):
        assert pickle.loads(pickle.dumps(constant)) == constant
        assert copy.deepcopy(constant) == constant


# --- attributes ---


def test_attributes() -> None:
    t = vt.zeros(2, 3, 4, dtype=vt.float16)
    assert (
        t.shape == (2, 3, 4) and t.size() == t.shape and t.size(-1) == 4 and t.ndim == t.dim() == 3
    )
    assert t.stride() == (12, 4, 1) and t.stride(0) == 12 and t.numel() == t.nelement() == 24
    assert t.itemsize == t.element_size() == 2 and t.nbytes == 48
    assert (
        t[1].storage_offset() == 12 and t.is_contiguous() and not t.permute(2, 0, 1).is_contiguous()
    )
    assert t.is_cpu and not t.is_cuda and t.get_device() == -1 and t.is_floating_point()
    assert t.T.shape == (4, 3, 2) and t.mT.shape == (2, 4, 3)
    assert repr(t.shape) == "torch.Size([2, 3, 4])" and t.shape.numel() == 24
    assert type(t.shape[1:]) is type(t.shape) and type(t.shape + t.shape) is type(t.shape)
    with pytest.raises(IndexError):
        t.size(3)
    with pytest.raises(AttributeError):
        t.shape = (1,)
    with pytest.raises(RuntimeError):
        _ = vt.ones(2).mT


def test_data_is_exchanged() -> None:
    t = vt.ones(3, requires_grad=True)
    flat = vt.zeros(10)
    t.data = flat[2:5]
    t.data.fill_(4)
    assert flat.tolist() == [0, 0, 4, 4, 4, 0, 0, 0, 0, 0] and t.requires_grad and t.is_leaf
    (t * 2).sum().backward()
    assert t.grad.tolist() == [2, 2, 2]
    t.grad = None
    t.set_data(vt.ones(2, 2, dtype=vt.float64))
    (t * 2).sum().backward()
    assert t.grad.dtype is vt.float64 and t.grad.shape == (2, 2)
    with pytest.raises(TypeError):
        t.data = None
    with pytest.raises(RuntimeError):
        t.data = vt.ones(2, dtype=vt.int64)


def test_grad_can_be_set() -> None:
    t = vt.ones(2, requires_grad=True)
    t.grad = vt.tensor([1.0, 2.0])
    (t * 1).sum().backward()
    assert t.grad.tolist() == [2, 3]
    del t.grad
    assert t.grad is None
    for bad in (vt.ones(3), vt.ones(2, dtype=vt.float64), t):
        with pytest.raises(RuntimeError):
            t.grad = bad
    with pytest.raises(TypeError):
        t.grad = 1


def test_bind_grad_writes_into_place() -> None:
    flat = vt.zeros(4)
    t = vt.ones(2, requires_grad=True)
    _C.bind_grad(t, flat[1:3])
    (t * 5).sum().backward()
    assert flat.tolist() == [0, 5, 5, 0] and t.grad.data_ptr() == flat[1:].data_ptr()


def test_numbers() -> None:
    t = vt.tensor(2.5)
    assert float(t) == 2.5 and int(t) == 2 and bool(t) and not bool(vt.tensor(0))
    assert [10, 20, 30][vt.tensor(1)] == 20
    assert f"{t:.2f}" == "2.50" and f"{vt.ones(1)}" == "tensor([1.])"
    with pytest.raises(RuntimeError, match="ambiguous"):
        bool(vt.ones(2))
    with pytest.raises(RuntimeError, match="no values"):
        bool(vt.ones(0))
    with pytest.raises(TypeError, match="index"):
        _ = [1][t]
    with pytest.raises(TypeError):
        format(vt.ones(2), ".2f")


def test_comparison_with_other_things() -> None:
    t = vt.ones(2)
    assert (t == None) is False and (t != None) is True and (t == "a") is False  # noqa: E711
    with pytest.raises(TypeError):
        _ = t < "a"
    for left, right in ((t, "x"), ([1], t), (None, t)):
        with pytest.raises(TypeError):
            left + right  # type: ignore[operator]


# --- text ---


@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.tensor(1.0),
        lambda m: m.tensor([1, 2, 3]),
        lambda m: m.tensor([True, False]),
        lambda m: m.tensor([1.5, -2.25, 1e10]),
        lambda m: m.tensor([1e-7, 1.0]),
        lambda m: m.tensor([float("nan"), float("inf"), -float("inf"), 1.0]),
        lambda m: m.tensor([1.0, float("nan")]),
        lambda m: m.zeros(0),
        lambda m: m.zeros(2, 0),
        lambda m: m.zeros(0, dtype=m.int64),
        lambda m: m.zeros(2, dtype=m.float64),
        lambda m: m.arange(50),
        lambda m: m.arange(1200).reshape(30, 40),
        lambda m: m.arange(4000.0).reshape(10, 20, 20) / 7,
        lambda m: m.arange(24).reshape(2, 3, 4),
        lambda m: m.ones(3, requires_grad=True),
        lambda m: m.tensor([0.5, 0.25], dtype=m.bfloat16),
        lambda m: m.full((3,), 123456.0),
        lambda m: m.tensor([[0.0, 1e5], [1.0, -3.0]]),
    ],
)
def test_repr(make: Any) -> None:
    assert repr(make(vt)) == repr(make(pt))


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["float32", "float64", "int64", "bool", "int8"]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=12),
    )
)
def test_any_repr(array: np.ndarray[Any, Any]) -> None:
    assert repr(vt.from_numpy(array)) == repr(pt.from_numpy(array))


def test_repr_names_the_history() -> None:
    x = vt.ones(1, requires_grad=True)
    assert "grad_fn=<" in repr(x * 2)
