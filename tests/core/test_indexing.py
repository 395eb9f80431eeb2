"""Indexing against PyTorch: views, masks, index tensors, assignment, gradients, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as pt
from hypothesis import given, settings
from hypothesis import strategies as st

import vibetensor.torch as vt

SHAPE = (4, 3, 5)


def pair() -> tuple[Any, pt.Tensor]:
    values = np.arange(60, dtype=np.float32).reshape(SHAPE)
    return vt.tensor(values), pt.tensor(values)


def both(index: Any) -> tuple[Any, Any]:
    """An index for each side: NumPy arrays stand for tensors."""

    def convert(item: Any, module: Any) -> Any:
        return module.tensor(item) if isinstance(item, np.ndarray) else item

    if isinstance(index, tuple):
        return tuple(convert(i, vt) for i in index), tuple(convert(i, pt) for i in index)
    return convert(index, vt), convert(index, pt)


def same(ours: Any, theirs: pt.Tensor) -> None:
    assert tuple(ours.shape) == tuple(theirs.shape)
    np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())


MASK = np.array([True, False, True, True])
BASIC = [
    0,
    -1,
    slice(1, 3),
    slice(None),
    slice(-3, -1),
    slice(3, 1),
    slice(None, None, 2),
    slice(2, 100),
    None,
    Ellipsis,
    (),
    (1, 2),
    (1, 2, 3),
    (slice(1, 3), 2),
    (Ellipsis, 1),
    (1, Ellipsis, 2),
    (None, 1, None, Ellipsis, None),
    (slice(None), slice(None), slice(0, 5, 3)),
]
ADVANCED = [
    [0, 2],
    np.array([3, 0, 3]),
    np.array([[0], [2]]),
    (slice(None), np.array([2, 0])),
    (np.array([0, 1]), np.array([2, 0])),
    (np.array([[0], [1]]), np.array([2, 0, 1])),
    (slice(None), np.array([0, 2]), np.array([1, 4])),
    (np.array([0, 2]), slice(None), np.array([1, 4])),
    (0, slice(None), np.array([1, 4])),
    (Ellipsis, np.array([4, 4, 0])),
    (None, np.array([1, 2])),
    np.array([], dtype=np.int64),
    MASK,
    (MASK, 1),
    (MASK, np.array([0, 1, 2])),
    (slice(None), np.array([True, False, True])),
    np.arange(60).reshape(SHAPE) % 7 == 0,
    (np.arange(12).reshape(4, 3) % 5 == 0, slice(1, 3)),
    True,
    False,
    np.array(2),
]


@pytest.mark.parametrize("index", BASIC + ADVANCED, ids=str)
def test_get(index: Any) -> None:
    ours, theirs = pair()
    a, b = both(index)
    same(ours[a], theirs[b])


@pytest.mark.parametrize("index", BASIC, ids=str)
def test_basic_indexing_is_a_view(index: Any) -> None:
    ours, _ = pair()
    view = ours[index]
    assert view is not ours
    if view.numel():
        view.fill_(-1)
        assert (ours == -1).sum().item() == view.numel()


@pytest.mark.parametrize("index", BASIC + ADVANCED, ids=str)
def test_set_number(index: Any) -> None:
    ours, theirs = pair()
    a, b = both(index)
    ours[a] = -7
    theirs[b] = -7
    same(ours, theirs)


@pytest.mark.parametrize("index", BASIC + ADVANCED, ids=str)
def test_set_tensor(index: Any) -> None:
    ours, theirs = pair()
    a, b = both(index)
    shape = tuple(theirs[b].shape)
    values = -1 - np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    if len(np.unique(theirs[b].numpy())) < theirs[b].numel():
        values = np.full_like(values, -3)  # an element written twice: the last write is not defined
    ours[a] = vt.tensor(values)
    theirs[b] = pt.tensor(values)
    same(ours, theirs)


@pytest.mark.parametrize("index", BASIC + ADVANCED, ids=str)
def test_set_broadcast_scalar_tensor(index: Any) -> None:
    ours, theirs = pair()
    a, b = both(index)
    ours[a] = vt.tensor(2.5)
    theirs[b] = pt.tensor(2.5)
    same(ours, theirs)


@pytest.mark.parametrize("index", BASIC + ADVANCED, ids=str)
def test_gradient_of_get(index: Any) -> None:
    ours, theirs = pair()
    ours.requires_grad_()
    theirs.requires_grad_()
    a, b = both(index)
    (ours[a] * ours[a]).sum().backward()
    (theirs[b] * theirs[b]).sum().backward()
    same(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    "index", [1, slice(1, 3), (Ellipsis, 2), np.array([3, 0]), MASK, (MASK, 1)], ids=str
)
def test_gradient_of_set(index: Any) -> None:
    ours, theirs = pair()
    a, b = both(index)
    grads = []
    for x, module, at in ((ours, vt, a), (theirs, pt, b)):
        x.requires_grad_()
        value = module.full(tuple(theirs[b].shape), 3.0, requires_grad=True)
        y = x * 2
        y[at] = value
        (y * y).sum().backward()
        grads.append((x.grad, value.grad))
    same(grads[0][0], grads[1][0])
    same(grads[0][1], grads[1][1])


def test_a_python_list_or_array_can_be_assigned() -> None:
    ours, theirs = pair()
    ours[0, 0] = [1, 2, 3, 4, 5]
    theirs[0, 0] = pt.tensor([1.0, 2, 3, 4, 5])
    ours[1, :, 0] = np.array([7, 8, 9])
    theirs[1, :, 0] = pt.tensor([7.0, 8, 9])
    same(ours, theirs)


def one_ellipsis(index: tuple[Any, ...]) -> bool:
    return sum(item is Ellipsis for item in index) < 2


items = st.one_of(
    st.integers(-5, 5),
    st.slices(5).filter(lambda s: s.step is None or s.step > 0),
    st.none(),
    st.just(Ellipsis),
    st.lists(st.integers(-3, 2), min_size=1, max_size=3).map(np.array),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(items, min_size=1, max_size=4).map(tuple).filter(one_ellipsis))
def test_any_index_does_what_torch_does(index: tuple[Any, ...]) -> None:
    ours, theirs = pair()
    a, b = both(index)
    try:
        expected = theirs[b]
    except IndexError:
        with pytest.raises(IndexError):
            ours[a]
        return
    same(ours[a], expected)


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (4, IndexError),
        (-5, IndexError),
        ((0, 0, 0, 0), IndexError),
        ((Ellipsis, Ellipsis), IndexError),
        (slice(None, None, -1), ValueError),
        (slice(None, None, 0), ValueError),
        (np.array([4]), IndexError),
        (np.array([-5]), IndexError),
        (np.array([0.5]), IndexError),
        (np.array([True, False]), IndexError),
        ("a", TypeError),
        (1.5, IndexError),
        ((np.array([0, 1]), np.array([0, 1, 2])), (IndexError, RuntimeError)),
    ],
    ids=str,
)
def test_bad_indices(index: Any, error: Any) -> None:
    ours, _ = pair()
    a, _ = both(index)
    before = ours.clone()
    with pytest.raises(error):
        ours[a]
    with pytest.raises(error):
        ours[a] = 1.0
    same(ours, pt.tensor(before.numpy()))


def test_bad_assignments() -> None:
    ours, _ = pair()
    with pytest.raises(RuntimeError):
        ours[0] = vt.ones(7)
    with pytest.raises(TypeError):
        ours[0] = "text"
    with pytest.raises(TypeError):
        del ours[0]
    with pytest.raises(IndexError):
        vt.tensor(1.0)[0]
    leaf = vt.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        leaf[0] = 1.0


def test_iteration_length_and_membership() -> None:
    ours, theirs = pair()
    assert len(ours) == 4
    for a, b in zip(ours, theirs, strict=True):
        same(a, b)
    assert 7 in ours and 7.5 not in ours and vt.tensor(3.0) in ours
    with pytest.raises(TypeError):
        len(vt.tensor(1.0))
    with pytest.raises(TypeError):
        iter(vt.tensor(1.0))


def test_an_index_that_picks_nothing_may_be_any_number() -> None:
    empty = vt.zeros(2, 0, 1, 0)
    assert empty[..., [0, 1], :].shape == (2, 0, 2, 0)
    empty[..., [0, 1], :] = 2.5
    with pytest.raises(IndexError, match="out of bounds"):
        vt.zeros(2, 3, 1)[..., [0, 1]]
    with pytest.raises(IndexError, match="size 0"):
        vt.zeros(0, 1, 0)[..., [0, 0]]
    with pytest.raises(IndexError, match="size 0"):
        vt.zeros(0, 1, 0)[..., [0, 0]] = 1
