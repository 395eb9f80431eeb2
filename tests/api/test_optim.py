"""Optimizers take PyTorch's steps, on one flat arena, and keep their state in PyTorch's format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch as pt
from oracle import assert_close, copy_weights, to_vt

import vibetensor.torch as vt

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd decay": ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    "momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "dampening": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    "nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam decay": ("Adam", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95)}),
    "adamw": ("AdamW", {"lr": 0.01}),
    "adamw options": ("AdamW", {"lr": 0.01, "weight_decay": 0.2, "eps": 1e-5}),
    "adamw fused": ("AdamW", {"lr": 0.01, "fused": True, "capturable": False}),
    "adam foreach": ("Adam", {"lr": 0.01, "foreach": True, "fused": False}),
    "sgd fused": ("SGD", {"lr": 0.1, "fused": True}),
}


def make_net(nn: Any) -> Any:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 3))


def make_pair() -> tuple[Any, Any]:
    pt.manual_seed(0)
    theirs, ours = make_net(pt.nn), make_net(vt.nn)
    copy_weights(theirs, ours)
    return ours, theirs


def make_optimizers(name: str, ours: Any, theirs: Any) -> tuple[Any, Any]:
    kind, options = OPTIMIZERS[name]
    return (
        getattr(vt.optim, kind)(ours.parameters(), **options),
        getattr(pt.optim, kind)(theirs.parameters(), **options),
    )


def loss_of(net: Any, functional: Any, step: int, convert: Callable[[pt.Tensor], Any]) -> Any:
    numbers = pt.Generator().manual_seed(step)
    x = pt.randn(8, 5, generator=numbers)
    y = pt.randint(0, 3, (8,), generator=numbers)
    return functional.cross_entropy(net(convert(x)), convert(y))


def train(net: Any, optimizer: Any, functional: Any, steps: range, convert: Any) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(net, functional, step, convert).backward()
        optimizer.step()


def train_both(ours: Any, theirs: Any, opt_vt: Any, opt_pt: Any, steps: range) -> None:
    train(ours, opt_vt, vt.nn.functional, steps, to_vt)
    train(theirs, opt_pt, pt.nn.functional, steps, lambda x: x)


def assert_same_weights(ours: Any, theirs: Any, rtol: float = 2e-5) -> None:
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(a, b, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps(name: str) -> None:
    ours, theirs = make_pair()
    opt_vt, opt_pt = make_optimizers(name, ours, theirs)
    train_both(ours, theirs, opt_vt, opt_pt, range(20))
    assert_same_weights(ours, theirs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_dict_has_the_format_of_torch(name: str) -> None:
    ours, theirs = make_pair()
    opt_vt, opt_pt = make_optimizers(name, ours, theirs)
    train_both(ours, theirs, opt_vt, opt_pt, range(3))
    state_vt, state_pt = opt_vt.state_dict(), opt_pt.state_dict()
    for key, options in state_vt["param_groups"][0].items():
        assert options == state_pt["param_groups"][0][key]
    for index, state in state_pt["state"].items():
        wanted = {key: value for key, value in state.items() if value is not None}
        assert set(state_vt["state"].get(index, {})) == set(wanted)
        for key, value in wanted.items():
            assert_close(state_vt["state"][index][key], value, rtol=1e-4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resuming_gives_the_same_bits(name: str) -> None:
    ours, theirs = make_pair()
    opt, _ = make_optimizers(name, ours, theirs)
    train(ours, opt, vt.nn.functional, range(3), to_vt)
    net_state = {key: value.clone() for key, value in ours.state_dict().items()}
    other = make_net(vt.nn)
    other.load_state_dict(net_state)
    resumed, _ = make_optimizers(name, other, theirs)
    resumed.load_state_dict(opt.state_dict())
    for net, optimizer in ((ours, opt), (other, resumed)):
        train(net, optimizer, vt.nn.functional, range(3, 6), to_vt)
    for a, b in zip(ours.parameters(), other.parameters(), strict=True):
        assert a.tolist() == b.tolist()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_torch_is_continued(name: str) -> None:
    ours, theirs = make_pair()
    opt_vt, opt_pt = make_optimizers(name, ours, theirs)
    train(theirs, opt_pt, pt.nn.functional, range(4), lambda x: x)
    copy_weights(theirs, ours)
    state = opt_pt.state_dict()
    converted = {
        "param_groups": state["param_groups"],
        "state": {
            index: {
                key: to_vt(value) if isinstance(value, pt.Tensor) else value
                for key, value in values.items()
            }
            for index, values in state["state"].items()
        },
    }
    opt_vt.load_state_dict(converted)
    train_both(ours, theirs, opt_vt, opt_pt, range(4, 10))
    assert_same_weights(ours, theirs)


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_parameters_without_gradients_stay(name: str) -> None:
    """A parameter that is not used in some steps keeps its value, its state and its count."""
    results = []
    for nn, functional, optim, convert in (
        (vt.nn, vt.nn.functional, vt.optim, to_vt),
        (pt.nn, pt.nn.functional, pt.optim, lambda x: x),
    ):
        pt.manual_seed(0)
        source = [pt.nn.Linear(5, 3) for _ in range(3)]
        net = nn.ModuleList([nn.Linear(5, 3) for _ in range(3)])
        for layer, weights in zip(net, source, strict=True):
            state = {key: convert(value) for key, value in weights.state_dict().items()}
            layer.load_state_dict(state)
        kind, options = OPTIMIZERS[name]
        optimizer = getattr(optim, kind)(net.parameters(), **options)
        for step in range(9):
            optimizer.zero_grad()
            loss_of(net[step % 2], functional, step, convert).backward()
            if step == 4:
                loss_of(net[2], functional, step, convert).backward()
            optimizer.step()
        results.append(net)
    assert_same_weights(*results)


def test_groups_have_their_own_options() -> None:
    ours, theirs = make_pair()
    groups = [
        [{"params": list(net[0].parameters()), "lr": 0.5}, {"params": net[3].parameters()}]
        for net in (ours, theirs)
    ]
    opt_vt = vt.optim.SGD(groups[0], lr=0.1, momentum=0.9)
    opt_pt = pt.optim.SGD(groups[1], lr=0.1, momentum=0.9)
    for net, optimizer in ((ours, opt_vt), (theirs, opt_pt)):
        optimizer.add_param_group({"params": net[2].weight, "momentum": 0.0})
    train_both(ours, theirs, opt_vt, opt_pt, range(10))
    assert_same_weights(ours, theirs)


def test_accumulated_gradients() -> None:
    ours, theirs = make_pair()
    opt_vt, opt_pt = make_optimizers("adamw", ours, theirs)
    for step in range(0, 12, 3):
        for net, optimizer, functional, convert in (
            (ours, opt_vt, vt.nn.functional, to_vt),
            (theirs, opt_pt, pt.nn.functional, lambda x: x),
        ):
            optimizer.zero_grad(set_to_none=step % 2 == 0)
            for i in range(3):
                loss_of(net, functional, step + i, convert).backward()
            optimizer.step()
    assert_same_weights(ours, theirs)


def test_gradients_that_the_user_assigns() -> None:
    param = vt.nn.Parameter(vt.ones(3))
    optimizer = vt.optim.SGD([param], lr=1.0)
    for i in range(3):
        param.grad = vt.full((3,), float(i))
        optimizer.step()
    assert param.tolist() == [-2.0] * 3


def test_values_that_the_user_assigns() -> None:
    """`.data = ...`, a loaded state dict, a cast: the next step works on what is there now."""
    param = vt.nn.Parameter(vt.ones(3))
    optimizer = vt.optim.SGD([param], lr=1.0, momentum=0.5)
    param.grad = vt.ones(3)
    optimizer.step()
    param.data = vt.full((3,), 10.0)
    param.grad = vt.ones(3)
    optimizer.step()
    assert param.tolist() == [8.5] * 3
    param.data = vt.full((3,), 20.0, dtype=vt.float64)
    param.grad = vt.ones(3, dtype=vt.float64)
    optimizer.step()
    assert param.dtype == vt.float64 and param.tolist() == [18.25] * 3


def test_unfrozen_parameters_join() -> None:
    a, b = (vt.nn.Parameter(vt.ones(2)) for _ in range(2))
    b.requires_grad = False
    optimizer = vt.optim.SGD([a, b], lr=1.0, momentum=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (a.sum() + b.sum()).backward()
        optimizer.step()
    b.requires_grad = True
    optimizer.zero_grad()
    (a.sum() + b.sum()).backward()
    optimizer.step()
    assert b.tolist() == [0.0, 0.0] and a.tolist() == [1 - 1 - 1.5 - 1.75] * 2


def test_16_bit_parameters_train_on_a_master() -> None:
    """Updates far below the spacing of bfloat16 add up, and outside writes reach the master."""
    param = vt.nn.Parameter(vt.ones(4, dtype=vt.bfloat16))
    optimizer = vt.optim.SGD([param], lr=1e-4)
    for _ in range(100):
        param.grad = vt.ones(4, dtype=vt.bfloat16)
        optimizer.step()
    assert param.dtype == vt.bfloat16 and param.tolist() == [0.98828125] * 4
    with vt.no_grad():
        param[1] = 5.0
    param.grad = vt.ones(4, dtype=vt.bfloat16)
    optimizer.step()
    master = optimizer.state_dict()["state"][0]["master"].tolist()
    assert master == pytest.approx([0.9899, 4.9999, 0.9899, 0.9899], abs=1e-5)


def test_grad_scale() -> None:
    for make in (vt.optim.SGD, vt.optim.Adam):
        params = [vt.nn.Parameter(vt.ones(2)) for _ in range(2)]
        for param, scale in zip(params, (0.5, None), strict=True):
            param.grad = vt.full((2,), 4.0 if scale else 2.0)
            optimizer = make([param], lr=0.1, weight_decay=0.1)
            optimizer.step(grad_scale=None if scale is None else vt.tensor(scale))
        assert params[0].tolist() == params[1].tolist()


def test_closure() -> None:
    param = vt.nn.Parameter(vt.ones(2))
    optimizer = vt.optim.SGD([param], lr=0.5)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = param.sum()
        loss.backward()
        return loss

    with vt.no_grad():
        assert optimizer.step(closure).item() == 2.0
    assert param.tolist() == [0.5, 0.5]


def test_arena() -> None:
    params = [
        vt.nn.Parameter(vt.full(shape, float(i))) for i, shape in enumerate([(3,), (), (2, 2)])
    ]
    arena = vt.optim.Arena(params)
    assert arena.offsets == [0, 64, 128] and arena.numel == 192
    for param, offset in zip(params, arena.offsets, strict=True):
        assert param.data_ptr() == arena.flat.data_ptr() + 4 * offset
    (params[0].sum() * 2 + params[2].sum()).backward()
    assert arena.present() == [True, False, True]
    assert arena.grad[:3].tolist() == [2.0] * 3 and arena.grad[128:132].tolist() == [1.0] * 4
    assert params[0].grad.data_ptr() == arena.grad.data_ptr()
    params[0].grad = None
    params[0].sum().backward()
    assert arena.grad[:3].tolist() == [1.0] * 3

    optimizer = vt.optim.SGD(params, lr=1.0)
    optimizer.use_arenas([arena])
    optimizer.step()
    assert arena.flat[:3].tolist() == [-1.0] * 3
    with pytest.raises(ValueError, match="another model"):
        vt.optim.SGD([vt.nn.Parameter(vt.ones(1))], lr=1.0).use_arenas([arena])
    with pytest.raises(ValueError, match="in no arena"):
        vt.optim.SGD([vt.nn.Parameter(vt.ones(1))], lr=1.0).use_arenas([])


def test_arena_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="no parameters"):
        vt.optim.Arena([])
    with pytest.raises(ValueError, match="several kinds"):
        vt.optim.Arena([vt.nn.Parameter(vt.ones(1)), vt.nn.Parameter(vt.ones(1, dtype=vt.float64))])
    base = vt.ones(4)
    with pytest.raises(ValueError, match="share memory"):
        vt.optim.Arena([vt.nn.Parameter(base[:3]), vt.nn.Parameter(base[2:])])


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda optim, p: optim.SGD([], lr=0.1), ValueError),
        (lambda optim, p: optim.SGD(p, lr=0.1), TypeError),
        (lambda optim, p: optim.SGD([p], lr=-1.0), ValueError),
        (lambda optim, p: optim.SGD([1.0], lr=0.1), TypeError),
        (lambda optim, p: optim.SGD([p * 2], lr=0.1), ValueError),
        (lambda optim, p: optim.SGD([p], lr=0.1, momentum=-1.0), ValueError),
        (lambda optim, p: optim.SGD([p], lr=0.1, nesterov=True), ValueError),
        (lambda optim, p: optim.AdamW([p], betas=(1.0, 0.9)), ValueError),
        (lambda optim, p: optim.AdamW([p], eps=-1.0), ValueError),
        (lambda optim, p: optim.AdamW([p], weight_decay=-1.0), ValueError),
        (lambda optim, p: optim.SGD([{"params": [p]}, {"params": [p]}], lr=0.1), ValueError),
    ],
)
def test_wrong_options_raise_what_torch_raises(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make(pt.optim, pt.nn.Parameter(pt.ones(2)))
    with pytest.raises(error):
        make(vt.optim, vt.nn.Parameter(vt.ones(2)))


def test_wrong_state_dicts() -> None:
    param = vt.nn.Parameter(vt.ones(2))
    optimizer = vt.optim.AdamW([param])
    param.grad = vt.ones(2)
    optimizer.step()
    state = optimizer.state_dict()
    other = vt.optim.AdamW([vt.nn.Parameter(vt.ones(3))])
    with pytest.raises(ValueError, match=r"'exp_avg' of parameter 0 has shape \[2\]"):
        other.load_state_dict(state)
    both = [vt.nn.Parameter(vt.ones(2)) for _ in range(2)]
    with pytest.raises(ValueError, match="doesn't match the size"):
        vt.optim.AdamW(both).load_state_dict(state)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        vt.optim.AdamW([{"params": [p]} for p in both]).load_state_dict(state)
