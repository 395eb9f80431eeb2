"""NumPy and DLPack: memory is shared both ways, kept alive, and refused where it cannot be."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
import torch as pt

import vibetensor.torch as vt
from vibetensor import _C

NUMPY_TYPES = ["bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("name", NUMPY_TYPES)
def test_from_numpy_shares_memory(name: str) -> None:
    array = np.array([[0, 1, 2], [3, 4, 5]]).astype(name)
    t = vt.from_numpy(array)
    assert t.dtype is getattr(vt, name) and tuple(t.shape) == (2, 3)
    array[1, 2] = 1
    assert t[1, 2].item() == 1
    t.zero_()
    assert not array.any()
    assert t.data_ptr() == array.ctypes.data


@pytest.mark.parametrize("name", NUMPY_TYPES)
def test_numpy_shares_memory(name: str) -> None:
    t = vt.arange(6).view(2, 3).to(getattr(vt, name))
    array = t.numpy()
    assert array.dtype == np.dtype(name) and array.shape == (2, 3)
    array[0, 0] = 1
    assert t[0, 0].item() == 1
    np.testing.assert_array_equal(array, np.asarray(t))


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a.T,
        lambda a: a[1:, ::2],
        lambda a: a[:, 1],
        lambda a: np.broadcast_to(a[:1], (3, 4)).copy(),
        lambda a: a[:0],
        lambda a: np.array(5.0),
    ],
    ids=["transposed", "sliced", "column", "copied", "empty", "0-d"],
)
def test_layouts(make: Any) -> None:
    array = make(np.arange(12.0).reshape(3, 4))
    t = vt.from_numpy(array)
    np.testing.assert_array_equal(t.numpy(), array)
    np.testing.assert_array_equal((t + 1).numpy(), array + 1)
    if array.size:
        assert t.numpy().ctypes.data == array.ctypes.data


def test_memory_lives_as_long_as_either_side() -> None:
    array = np.arange(1000.0)
    before = sys.getrefcount(array)
    t = vt.from_numpy(array)
    view = t[10:20]
    assert sys.getrefcount(array) == before + 1
    del t
    assert sys.getrefcount(array) == before + 1
    del view
    assert sys.getrefcount(array) == before

    t = vt.arange(1000)
    array = t.numpy()[5:]
    t.data = vt.zeros(3)  # the array keeps the memory that it was made over
    del t
    gc.collect()
    assert array[0] == 5


def test_what_numpy_cannot_share() -> None:
    with pytest.raises(ValueError, match="negative"):
        vt.from_numpy(np.arange(3)[::-1])
    with pytest.raises(TypeError, match="complex"):
        vt.from_numpy(np.zeros(2, dtype=np.complex64))
    with pytest.raises(TypeError, match="swapped"):
        vt.from_numpy(np.zeros(2, dtype=">f4"))
    with pytest.raises(TypeError, match="list"):
        vt.from_numpy([1, 2])
    with pytest.raises(TypeError, match="bfloat16"):
        vt.zeros(2, dtype=vt.bfloat16).numpy()
    with pytest.raises(RuntimeError, match="requires grad"):
        vt.zeros(2, requires_grad=True).numpy()
    assert vt.zeros(2, requires_grad=True).numpy(force=True).shape == (2,)
    frozen = np.zeros(2)
    frozen.flags.writeable = False
    with pytest.warns(UserWarning, match="not writable"):
        vt.from_numpy(frozen)


def test_numpy_functions_take_tensors() -> None:
    t = vt.tensor([1.0, 4.0, 9.0])
    root = np.sqrt(t)
    assert isinstance(root, vt.Tensor) and root.tolist() == [1, 2, 3]
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    copied = np.array(t)
    copied[0] = 7
    assert t[0].item() == 1
    assert isinstance(np.float32(2) * t, vt.Tensor)


# --- DLPack ---


@pytest.mark.parametrize(
    "name", ["bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32"]
)
def test_dlpack_both_ways_with_torch(name: str) -> None:
    theirs = pt.arange(6).reshape(2, 3).to(getattr(pt, name))
    ours = vt.from_dlpack(theirs)
    assert ours.dtype is getattr(vt, name) and ours.data_ptr() == theirs.data_ptr()
    back = pt.from_dlpack(ours)
    assert back.data_ptr() == theirs.data_ptr() and back.dtype == theirs.dtype
    theirs[0, 0] = 1
    assert ours[0, 0].item() == 1
    strided = vt.from_dlpack(theirs.t())
    assert strided.stride() == theirs.t().stride()
    assert pt.equal(pt.from_dlpack(strided), theirs.t())


def test_dlpack_with_numpy() -> None:
    array = np.arange(4.0)
    ours = vt.from_dlpack(array)
    ours[0] = 9
    assert array[0] == 9
    np.testing.assert_array_equal(np.from_dlpack(vt.arange(3)), [0, 1, 2])


def test_dlpack_keeps_memory_alive() -> None:
    array = np.arange(1000.0)
    before = sys.getrefcount(array)
    view = vt.from_dlpack(vt.from_numpy(array))[3:]
    gc.collect()
    assert sys.getrefcount(array) == before + 1 and view[0].item() == 3
    del view
    assert sys.getrefcount(array) == before


def test_dlpack_capsules() -> None:
    t = vt.arange(3)
    assert t.__dlpack_device__() == (1, 0)
    capsule = t.__dlpack__()
    assert '"dltensor"' in repr(capsule)
    assert vt.from_dlpack(capsule).tolist() == [0, 1, 2]
    with pytest.raises(RuntimeError, match="only once"):
        vt.from_dlpack(capsule)
    assert '"dltensor_versioned"' in repr(t.__dlpack__(max_version=(1, 0)))
    assert '"dltensor"' in repr(t.__dlpack__(max_version=(0, 8)))
    del capsule  # consumed and unconsumed capsules both free what they own
    t.__dlpack__()
    copied = vt.from_dlpack(t.__dlpack__(copy=True))
    copied.zero_()
    assert t.tolist() == [0, 1, 2]


def test_dlpack_refuses() -> None:
    with pytest.raises(RuntimeError, match="require gradient"):
        vt.zeros(2, requires_grad=True).__dlpack__()
    with pytest.raises(TypeError, match="__dlpack__"):
        vt.from_dlpack([1, 2])
    with pytest.raises(TypeError, match="DLPack type"):
        vt.from_dlpack(np.zeros(2, dtype=np.complex64))
    with pytest.raises(RuntimeError, match="stream"):
        vt.zeros(2).__dlpack__(stream=7)


@pytest.mark.cuda
def test_dlpack_on_a_gpu_is_ordered_between_streams() -> None:
    a = vt.ones(1 << 20, device="cuda")
    side = vt.cuda.Stream()
    side.wait_stream(vt.cuda.current_stream())  # which still fills `a`
    with vt.cuda.stream(side):
        for _ in range(20):
            a.add_(1)
        theirs = pt.from_dlpack(a)
    assert theirs.sum().item() == 21 * (1 << 20)
    ours = vt.from_dlpack(theirs * 2)
    assert ours.sum().item() == 42 * (1 << 20)
    assert ours.device == vt.device("cuda:0")


# --- torch.tensor and friends ---


@pytest.mark.parametrize(
    "data",
    [
        1,
        2.5,
        True,
        [],
        [[]],
        [1, 2],
        [1, 2.5],
        [True, False],
        [True, 2],
        [[1, 2], [3, 4]],
        ((1.0, 2), (3, 4)),
        range(4),
        np.float64(1.5),
        np.int32(3),
        [np.float32(1), np.float32(2)],
        np.arange(4, dtype=np.int32),
        [float("nan"), float("inf")],
        2**62,
    ],
    ids=str,
)
def test_tensor_does_what_torch_does(data: Any) -> None:
    ours, theirs = vt.tensor(data), pt.tensor(data)
    assert str(ours.dtype) == str(theirs.dtype)
    assert tuple(ours.shape) == tuple(theirs.shape)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_tensor_of_tensors_and_options() -> None:
    assert vt.tensor([vt.tensor(1.0), vt.tensor(2.0)]).tolist() == [1.0, 2.0]
    source = vt.tensor([1.0], requires_grad=True)
    copy = vt.tensor(source)
    assert not copy.requires_grad and copy.data_ptr() != source.data_ptr()
    assert vt.tensor([1, 2], dtype=vt.float16).dtype is vt.float16
    assert vt.tensor([1.0], requires_grad=True).requires_grad
    assert vt.as_tensor(source) is source
    array = np.zeros(3)
    assert vt.as_tensor(array).data_ptr() == array.ctypes.data
    assert vt.as_tensor([1, 2], dtype=vt.float32).dtype is vt.float32


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        ([[1, 2], [3]], ValueError, "length 2 at dim 1"),
        ([1, [2]], ValueError, "at dim 1"),
        ([[1], 2], ValueError, "at dim 1"),
        ("text", TypeError, "str"),
        ({}, TypeError, "dict"),
        ([None], TypeError, "NoneType"),
        ([1j], TypeError, "complex"),
        (2**80, (OverflowError, RuntimeError), "int"),
    ],
)
def test_tensor_refuses(data: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        vt.tensor(data)


def test_item_and_tolist() -> None:
    assert vt.tensor([[True]]).item() is True
    assert type(vt.tensor(3).item()) is int
    assert type(vt.tensor(3.0, dtype=vt.bfloat16).item()) is float
    assert vt.arange(6).view(2, 3).t().tolist() == [[0, 3], [1, 4], [2, 5]]
    assert vt.tensor(4).tolist() == 4
    with pytest.raises(RuntimeError, match="2 elements"):
        vt.zeros(2).item()


def test_casts_and_moves() -> None:
    t = vt.tensor([0.0, 1.6, -2.6])
    assert t.int().tolist() == [0, 1, -2]
    assert t.bool().tolist() == [False, True, True]
    assert t.to(vt.float32) is t and t.cpu() is t and t.float() is t
    assert t.to(vt.float32, copy=True) is not t
    assert t.to("cpu", vt.float64).dtype is vt.float64
    assert t.to(device="cpu", dtype=vt.int64).dtype is vt.int64
    assert t.to(vt.tensor([1])).dtype is vt.int64
    assert t.type_as(vt.tensor([1])).dtype is vt.int64
    assert t.to(float).dtype is vt.float64
    with pytest.raises(TypeError, match="list"):
        t.to([])
    with pytest.raises(RuntimeError, match="gpu"):
        t.to("gpu")


def test_tensors_like_another() -> None:
    t = vt.ones(2, dtype=vt.float64)
    assert t.new_zeros(2, 3).dtype is vt.float64 and t.new_zeros((2, 3)).shape == (2, 3)
    assert t.new_ones(2, dtype=vt.int64).tolist() == [1, 1]
    assert t.new_full((2,), 7.0, requires_grad=True).requires_grad
    assert t.new_tensor([1, 2]).dtype is vt.float64 and t.new_empty(0).numel() == 0


def test_equal_and_close() -> None:
    a = vt.tensor([1.0, float("inf"), float("nan")])
    assert vt.equal(vt.ones(2), vt.ones(2)) and not vt.equal(vt.ones(2), vt.ones(3))
    assert not a.equal(a)
    for b in (a, a * (1 + 1e-6), a + 1e-3, -a):
        for options in ({}, {"equal_nan": True}, {"rtol": 0.1, "atol": 0.0}):
            theirs = pt.isclose(pt.tensor(a.tolist()), pt.tensor(b.tolist()), **options)
            assert vt.isclose(a, b, **options).tolist() == theirs.tolist()
            assert vt.allclose(a, b, **options) == theirs.all().item()
    assert vt.tensor([1, 2]).allclose(vt.tensor([1, 2]))
    with pytest.raises(RuntimeError, match="dtype"):
        vt.allclose(a, a.double())


def test_devices() -> None:
    assert vt.device("cpu") is vt.device("cpu:0") is vt.device("cpu", 0)
    assert str(vt.device("cuda", 1)) == "cuda:1" and vt.device("cuda:1").index == 1
    for bad in ("gpu", "cuda0", "cuda:", "cuda:-1", "cuda:x", "cpu:64", ""):
        with pytest.raises(RuntimeError, match="device"):
            vt.device(bad)
    with pytest.raises(RuntimeError, match="does not exist"):
        vt.zeros(2, device="cuda:63")
    with pytest.raises(RuntimeError, match="does not exist"):
        vt.zeros(2, device="cpu:63")


def test_dtypes() -> None:
    assert str(vt.float32) == "torch.float32"
    assert vt.float16.is_floating_point and not vt.int8.is_floating_point
    assert vt.bfloat16.itemsize == 2 and vt.int64.itemsize == 8
    with pytest.raises(TypeError):
        type(vt.float32)()
    assert _C.dtype is type(vt.float32)
