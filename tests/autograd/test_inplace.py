"""Changes in place stay differentiable, and are refused where they could not be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from oracle_graph import same_gradients, same_second_gradients

import vibetensor.torch as vt


def _into_a_base(m: Any, x: Any, w: Any) -> Any:
    y = x * 1
    y[0] = w
    return y * x


def _into_zeros(m: Any, w: Any) -> Any:
    y = m.zeros(3, 4, dtype=m.float64)
    y[1] = w
    y[:, 2] = w[0] * 2
    return y * 3


def _column_scaled(m: Any, x: Any, w: Any) -> Any:
    y = x * 1
    y[:, 1].mul_(w)
    return y.sum(0) * y[1]


def _view_of_view(m: Any, x: Any, w: Any) -> Any:
    y = x * 1
    view = y.view(2, 6).t()[2:4]
    view.add_(w)
    return view.exp().sum() + (y * y).sum()


def _view_made_before(m: Any, x: Any, w: Any) -> Any:
    y = x * 1
    view = y[1]
    y[:2].mul_(w)
    return view * 2


def _sibling_made_before_any_gradient(m: Any, w: Any) -> Any:
    y = m.ones(3, 4, dtype=m.float64)
    sibling = y[0]
    y[0] = w
    return sibling * 2


def _base_that_is_transposed(m: Any, x: Any, w: Any) -> Any:
    y = x.t() * 1.5
    y[0] = w
    return y * y


def _product_in_place(m: Any, x: Any, w: Any) -> Any:
    y = x * 1
    y.mul_(w)
    y.mul_(w)
    return y


def _abs_in_place(m: Any, x: Any, w: Any) -> Any:
    y = x * w
    y.abs_()
    y.sin_()
    return y


def _filled(m: Any, x: Any, w: Any) -> Any:
    y = x * 2
    y[1:].zero_()
    y[0, :2].fill_(3.0)
    return y * w


def _masked_in_place(m: Any, x: Any, w: Any) -> Any:
    y = x * 2
    y[x.detach() > 0] = 0.5
    y.masked_fill_(x.detach() < -1, 1.0)
    return y * w


def _index_put(m: Any, x: Any, w: Any) -> Any:
    y = x * 2
    y[m.tensor([0, 2])] = w
    return y * x


def _expanded_source(m: Any, x: Any, w: Any) -> Any:
    y = x * 2
    y.copy_(w)
    y += w
    y -= x
    y /= 2
    return y


def _expanded_view(m: Any, x: Any, w: Any) -> Any:
    y = x * 1
    wide = y.expand(3, 4)
    y.mul_(w)
    return wide * wide


INPLACE: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "a row of a base": (_into_a_base, ((3, 4), (4,))),
    "into zeros": (_into_zeros, ((4,),)),
    "a column scaled": (_column_scaled, ((3, 4), (3,))),
    "a view of a view": (_view_of_view, ((3, 4), (2,))),
    "a view made before": (_view_made_before, ((3, 4), (4,))),
    "a sibling made before any gradient": (_sibling_made_before_any_gradient, ((4,),)),
    "a transposed base": (_base_that_is_transposed, ((3, 4), (3,))),
    "a product": (_product_in_place, ((3, 4), (3, 4))),
    "unary": (_abs_in_place, ((3, 4), (3, 4))),
    "fills": (_filled, ((3, 4), (4,))),
    "masks": (_masked_in_place, ((3, 4), (4,))),
    "index tensors": (_index_put, ((3, 4), (2, 4))),
    "an expanded view of a base": (_expanded_view, ((4,), (4,))),
    "copy of an expanded source": (_expanded_source, ((3, 4), (4,))),
}


@pytest.mark.parametrize("name", INPLACE)
def test_in_place_gradients_are_torchs(name: str) -> None:
    run, shapes = INPLACE[name]
    same_gradients(run, *shapes)


@pytest.mark.parametrize("name", INPLACE)
def test_in_place_second_gradients_are_torchs(name: str) -> None:
    run, shapes = INPLACE[name]
    same_second_gradients(run, *shapes)


def test_leaves_do_not_change_in_place() -> None:
    x = vt.ones(3, requires_grad=True)
    for change in (
        lambda: x.add_(1),
        lambda: x[0].fill_(2),
        lambda: x.__setitem__(0, 5.0),
        lambda: x.zero_(),
    ):
        with pytest.raises(RuntimeError, match="leaf"):
            change()
    assert x.tolist() == [1, 1, 1]
    with vt.no_grad():
        x.add_(1)
    assert x.tolist() == [2, 2, 2] and x.requires_grad and x.is_leaf


def test_a_saved_tensor_that_changed_is_an_error() -> None:
    for change in (
        lambda t: t.add_(1),
        lambda t: t[0].zero_(),
        lambda t: t.detach().fill_(2),
        lambda t: t.t().mul_(2),
    ):
        x = vt.ones(3, 3, requires_grad=True)
        y = x * 2
        z = (y * y).sum()
        with vt.no_grad():
            change(y)
        with pytest.raises(RuntimeError, match=r"modified by an inplace operation.*version"):
            z.backward()
    x = vt.ones(3, requires_grad=True)
    y = x.exp()
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_what_backward_does_not_read_may_change() -> None:
    x = vt.ones(3, requires_grad=True)
    y = x * 2
    z = y * 3  # the gradient of a product with a number does not need y
    y.add_(1)
    (z.sum() + y.sum()).backward()
    assert x.grad.tolist() == [8, 8, 8]
    c = vt.ones(3)
    x.grad = None
    y = x * 2
    z = y * c  # only c is read: y's own values matter to c alone
    y.zero_()
    z.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
