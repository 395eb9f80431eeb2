"""Graphs of every form: reuse, retention, double backward, in-place changes of views, depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch as pt
from oracle_graph import check, leaf, same_gradients, same_second_gradients

import vibetensor.torch as vt

GRAPHS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "a tensor used twice": (lambda m, x: x * x + x, ((3, 4),)),
    "diamond": (lambda m, x: (x.exp() * m.sin(x) + x.tanh()) * x.exp(), ((3, 4),)),
    "same tensor both sides of a product": (lambda m, x: x @ x, ((4, 4),)),
    "broadcast back to a row": (lambda m, x, y: (x + y) * y, ((3, 4), (4,))),
    "broadcast back to a number": (lambda m, x, y: x * y - y, ((3, 4), ())),
    "two results of one split": (lambda m, x: m.split(x, 2)[0] * m.split(x, 2)[1], ((4, 3),)),
    "an unused part": (lambda m, x: x.chunk(3)[1] * 2, ((6, 3),)),
    "views of views": (lambda m, x: x.t()[1:].reshape(-1)[::2] * 3, ((4, 5),)),
    "expand and sum": (lambda m, x: x.expand(5, 3, 4).sum(0) * x, ((3, 4),)),
    "cat of one tensor twice": (lambda m, x: m.cat([x, x * 2, x], 1), ((3, 4),)),
    "stack": (lambda m, x, y: m.stack([x, y, x], 1), ((3, 4), (3, 4))),
    "max shared by ties": (lambda m, x: m.amax(m.cat([x, x], 1), 1), ((3, 4),)),
    "norm and divide": (lambda m, x: x / x.norm(), ((3, 4),)),
    "where": (lambda m, x, y: m.where(x > 0, x * y, y), ((3, 4), (3, 4))),
    "masked": (lambda m, x: x.masked_fill(x < 0, 0.5) * x, ((3, 4),)),
    "boolean index": (lambda m, x: x[x.detach() > 0] * 2, ((3, 4),)),
    "index with repeats": (lambda m, x: x[m.tensor([0, 2, 2, 1])] * 2, ((3, 4),)),
    "two index tensors": (lambda m, x: x[m.tensor([0, 2]), m.tensor([1, 1])], ((3, 4),)),
    "negative index": (lambda m, x: x[-1] * x[..., -2:].sum(), ((3, 4),)),
    "logsumexp": (lambda m, x: m.logsumexp(x, 1), ((3, 4),)),
    "var": (lambda m, x: x.var(dim=1) * x.std(), ((3, 4),)),
    "cross entropy": (
        lambda m, x: m.nn.functional.cross_entropy(x, m.tensor([0, 2, 1])),
        ((3, 4),),
    ),
    "cross entropy, smooth": (
        lambda m, x: m.nn.functional.cross_entropy(x, m.tensor([0, -100, 1]), label_smoothing=0.2),
        ((3, 4),),
    ),
    "layer norm": (
        lambda m, x, w, b: m.nn.functional.layer_norm(x, [4], w, b),
        ((3, 4), (4,), (4,)),
    ),
    "rms norm": (lambda m, x, w: m.nn.functional.rms_norm(x, [4], w, 1e-6), ((3, 4), (4,))),
    "attention": (
        lambda m, q, k, v: m.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
        ((2, 5, 4), (2, 5, 4), (2, 5, 4)),
    ),
    "attention with a mask": (
        lambda m, q, k, v, a: m.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=a),
        ((2, 5, 4), (2, 6, 4), (2, 6, 4), (5, 6)),
    ),
    "linear over leading dims": (
        lambda m, x, w, b: m.nn.functional.linear(x, w, b),
        ((2, 3, 4), (5, 4), (5,)),
    ),
    "linear of a vector": (lambda m, x, w: m.nn.functional.linear(x, w), ((4,), (5, 4))),
    "matmul vector vector": (lambda m, x, y: x @ y, ((4,), (4,))),
    "matmul matrix vector": (lambda m, x, y: x @ y, ((3, 4), (4,))),
    "matmul vector matrix": (lambda m, x, y: x @ y, ((4,), (4, 3))),
    "matmul batch matrix": (lambda m, x, y: x @ y, ((2, 5, 3, 4), (4, 6))),
    "matmul matrix batch": (lambda m, x, y: x @ y, ((3, 4), (2, 4, 6))),
    "matmul batch vector": (lambda m, x, y: x @ y, ((2, 3, 4), (4,))),
    "matmul vector batch": (lambda m, x, y: x @ y, ((4,), (2, 4, 3))),
    "matmul broadcast batches": (lambda m, x, y: x @ y, ((2, 1, 3, 4), (5, 4, 6))),
    "matmul of strided batches": (lambda m, x, y: x[:, :, :3] @ y, ((2, 1, 7, 4), (4, 6))),
    "matmul of a transposed batch": (
        lambda m, x, y: x.transpose(0, 1) @ y.t(),
        ((5, 2, 4), (6, 4)),
    ),
    "matmul of expanded": (lambda m, x, y: x.expand(3, 2, 4) @ y.expand(3, 4, 4), ((2, 4), (4, 4))),
    "diagonal of a view": (lambda m, x: x[1:].t().diagonal(1) * 2, ((5, 4),)),
    "as_strided of a view": (lambda m, x: x[1:].as_strided((3, 2), (2, 3), 4), ((5, 4),)),
    "as_strided that overlaps": (lambda m, x: x.as_strided((4, 3), (2, 1), 1) * 2, ((4, 4),)),
    "as_strided of an expanded tensor": (
        lambda m, x: x.expand(3, 4).as_strided((4,), (1,)) * 2,
        ((4,),),
    ),
    "prod": (lambda m, x: x.prod() * x, ((2, 3),)),
    "cumsum": (lambda m, x: x.cumsum(0) * x.cumsum(1), ((3, 4),)),
    "sort": (lambda m, x: x.sort(1)[0] * x, ((3, 4),)),
    "topk": (lambda m, x: x.topk(2, dim=0)[0], ((3, 4),)),
    "repeat and roll": (lambda m, x: x.repeat(2, 3).roll(1, 0), ((3, 4),)),
    "power of two tensors": (lambda m, x, y: (x.abs() + 1) ** y, ((3, 4), (3, 4))),
    "dtype and back": (lambda m, x: x.to(m.float32).to(m.float64) * x, ((3, 4),)),
    "copy into a fresh tensor": (
        lambda m, x: m.zeros(3, 4, dtype=m.float64).copy_(x * 2) * x,
        ((3, 4),),
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_are_torchs(name: str) -> None:
    run, shapes = GRAPHS[name]
    same_gradients(run, *shapes)


ONCE_ONLY = (
    "cross entropy",
    "cross entropy, smooth",
    "layer norm",
    "rms norm",
    "attention",
    "dtype and back",
)


@pytest.mark.parametrize("name", [n for n in GRAPHS if n not in ONCE_ONLY])
def test_second_gradients_are_torchs(name: str) -> None:
    run, shapes = GRAPHS[name]
    same_second_gradients(run, *shapes)


@pytest.mark.parametrize("name", ["cross entropy", "layer norm", "rms norm", "attention"])
def test_a_second_derivative_that_does_not_exist_is_an_error(name: str) -> None:
    run, shapes = GRAPHS[name]
    with pytest.raises(
        NotImplementedError, match=r"second derivative|derivative is not implemented"
    ):
        same_second_gradients(run, *shapes)


# --- in-place ---


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


# --- accumulation and retention ---


def test_gradients_accumulate_and_can_be_cleared() -> None:
    x = vt.ones(3, requires_grad=True)
    for expected in (2, 4, 6):
        (x * 2).sum().backward()
        assert x.grad.tolist() == [expected] * 3
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    x.grad.zero_()
    (x * 5).sum().backward()
    assert x.grad.tolist() == [5, 5, 5]


def test_a_second_backward_needs_retain_graph() -> None:
    x = vt.ones(3, requires_grad=True)
    y = (x.exp() * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match=r"second time.*retain_graph"):
        y.backward()


@pytest.mark.parametrize("create_graph", [False, True])
def test_leaves_never_share_a_gradient(create_graph: bool) -> None:
    x, y = vt.ones(3, requires_grad=True), vt.ones(3, requires_grad=True)
    seed = vt.ones(3)
    (x + y).backward(seed, create_graph=create_graph)
    with vt.no_grad():
        x.grad.zero_()
    assert y.grad.tolist() == [1, 1, 1] and seed.tolist() == [1, 1, 1]
    w = vt.ones(4, requires_grad=True)
    w.sum().backward(create_graph=create_graph)
    with vt.no_grad():
        w.grad[0] = 7
    assert w.grad.tolist() == [7, 1, 1, 1]


def test_grad_leaves_the_leaves_alone() -> None:
    x, y = vt.ones(3, requires_grad=True), vt.ones(3, requires_grad=True)
    (gx,) = vt.autograd.grad((x * y * 2).sum(), [x])
    assert gx.tolist() == [2, 2, 2] and x.grad is None and y.grad is None
    with pytest.raises(RuntimeError, match="not have been used"):
        vt.autograd.grad((x * 2).sum(), [y])
    assert vt.autograd.grad((x * 2).sum(), [y], allow_unused=True) == (None,)
    middle = x * 2
    (gm,) = vt.autograd.grad((middle * y).sum(), [middle])
    assert gm.tolist() == [1, 1, 1]


def test_grad_runs_only_what_leads_to_its_inputs() -> None:
    ran = []
    x, y = vt.ones(3, requires_grad=True), vt.ones(3, requires_grad=True)
    a, b = x * 2, y * 3
    b.register_hook(lambda g: ran.append("b"))
    inner = b.exp()
    inner.register_hook(lambda g: ran.append("inner"))
    vt.autograd.grad((a + inner).sum(), [x])
    assert ran == []


def test_implicit_gradients_are_for_scalars() -> None:
    x = vt.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="scalar outputs"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match=r"does not match"):
        (x * 2).backward(vt.ones(4))
    with pytest.raises(RuntimeError, match="does not require grad"):
        vt.ones(3).sum().backward()


# --- hooks ---


def test_hooks_see_and_replace_gradients() -> None:
    x = vt.ones(3, requires_grad=True)
    seen = []
    y = x * 2
    first = y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g + 1)
    (y * 3).sum().backward()
    assert seen == [[3, 3, 3]] and x.grad.tolist() == [61, 61, 61]
    first.remove()
    first.remove()
    x.grad = None
    y = x * 2
    handle = y.register_hook(lambda g: seen.append("no"))
    handle.remove()
    y.sum().backward()
    assert seen == [[3, 3, 3]]


def test_hook_errors_reach_the_caller() -> None:
    x = vt.ones(3, requires_grad=True)
    y = x * 2

    def fail(grad: Any) -> None:
        raise KeyError("from the hook")

    y.register_hook(fail)
    with pytest.raises(KeyError, match="from the hook"):
        y.sum().backward()
    z = x * 2
    z.register_hook(lambda g: vt.ones(5))
    with pytest.raises(RuntimeError, match="shape"):
        z.sum().backward()


def test_retain_grad() -> None:
    x = vt.ones(3, requires_grad=True)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward()
    assert y.grad.tolist() == [4, 4, 4] and x.grad.tolist() == [8, 8, 8]
    with pytest.raises(RuntimeError, match="requires_grad"):
        vt.ones(3).retain_grad()


def test_post_accumulate_hook_sees_the_finished_gradient() -> None:
    x = vt.ones(3, requires_grad=True)
    seen = []
    x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.tolist()))
    (x * 2 + x * 3).sum().backward()
    assert seen[-1] == [5, 5, 5]


# --- modes ---


def test_no_grad_and_detach() -> None:
    x = vt.ones(3, requires_grad=True)
    with vt.no_grad():
        y = x * 2
    assert not y.requires_grad and y.grad_fn is None
    with vt.no_grad(), vt.enable_grad():
        assert (x * 2).requires_grad
    d = (x * 2).detach()
    assert not d.requires_grad and d.is_leaf
    (x * d).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    same = x.detach()
    same[0] = 9
    assert x.tolist() == [9, 1, 1]


def test_requires_grad_is_for_float_leaves() -> None:
    with pytest.raises(RuntimeError, match="floating point"):
        vt.ones(3, dtype=vt.int64).requires_grad_()
    y = vt.ones(3, requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="leaf"):
        y.requires_grad = False


# --- depth and width ---


def test_a_chain_of_a_hundred_thousand() -> None:
    x = vt.ones(1, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad.tolist() == [1.0]
    del y  # and the graph goes without a deep recursion


def test_a_chain_that_is_never_run_goes_quietly() -> None:
    y = vt.ones(1, requires_grad=True)
    for _ in range(100_000):
        y = y.tanh()
    del y


def test_a_long_chain_of_in_place_views() -> None:
    x = vt.zeros(10, requires_grad=True)
    y = x * 1.0
    for i in range(300):
        y[i % 10].add_(1.0)
    y.sum().backward()
    assert x.grad.tolist() == [1.0] * 10


def test_a_wide_sum() -> None:
    x = vt.ones(2, requires_grad=True)
    vt.stack([x * float(i) for i in range(1000)]).sum().backward()
    assert x.grad.tolist() == [499500.0] * 2


def test_prod_with_zeros() -> None:
    for values in ([2.0, 0.0, 3.0], [0.0, 0.0, 3.0]):
        mine, yours = leaf(pt.tensor(values)), pt.tensor(values, requires_grad=True)
        mine.prod().backward()
        yours.prod().backward()
        check(mine.grad, yours.grad)


def test_norm_at_zero() -> None:
    x = vt.zeros(3, requires_grad=True)
    x.norm().backward()
    assert x.grad.tolist() == [0, 0, 0]


def test_gradients_arrive_in_the_type_of_the_leaf() -> None:
    x = vt.ones(3, dtype=vt.bfloat16, requires_grad=True)
    y = vt.ones(3, dtype=vt.float64, requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.dtype == vt.bfloat16 and y.grad.dtype == vt.float64
