"""The tree of modules: names, state dicts, conversion, hooks and the errors of wrong use."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch as pt
from oracle import assert_close, to_vt

import vibetensor.torch as vt


def make_net(nn: Any, ones: Any) -> Any:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)
            self.register_buffer("mask", ones(3))
            self.register_buffer("scratch", ones(2), persistent=False)

        def forward(self, x: Any) -> Any:
            return self.fc(x) * self.mask

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(ones(3))
            self.blocks = nn.ModuleList([Inner(), Inner()])
            self.named = nn.ModuleDict({"a": nn.Linear(3, 2, bias=False)})
            self.extra = nn.ParameterList([nn.Parameter(ones(1))])
            self.absent = None

        def forward(self, x: Any) -> Any:
            for block in self.blocks:
                x = block(x) * self.scale
            return self.named["a"](x)

    return Net()


@pytest.fixture
def nets() -> tuple[Any, Any]:
    return make_net(vt.nn, vt.ones), make_net(pt.nn, pt.ones)


def test_names_are_those_of_torch(nets: tuple[Any, Any]) -> None:
    ours, theirs = nets
    for walk in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        assert [name for name, _ in getattr(ours, walk)()] == [
            name for name, _ in getattr(theirs, walk)()
        ]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert list(ours.state_dict(prefix="net.")) == list(theirs.state_dict(prefix="net."))


def test_shared_parameters_are_walked_once_and_saved_twice() -> None:
    class Tied(vt.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = vt.nn.Linear(3, 3, bias=False)
            self.b = vt.nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

    net = Tied()
    assert [name for name, _ in net.named_parameters()] == ["a.weight"]
    assert list(net.state_dict()) == ["a.weight", "b.weight"]


def test_state_dict_round_trip(nets: tuple[Any, Any]) -> None:
    ours, theirs = nets
    state = {name: to_vt(value) for name, value in theirs.state_dict().items()}
    assert ours.load_state_dict(state) == ([], [])
    x = pt.randn(4, 3)
    assert_close(ours(to_vt(x)), theirs(x))
    other = make_net(vt.nn, vt.ones)
    other.load_state_dict(ours.state_dict(), assign=True)
    assert_close(other(to_vt(x)), theirs(x))
    assert isinstance(other.scale, vt.nn.Parameter) and other.scale.requires_grad


def test_state_dict_shares_memory_without_history(nets: tuple[Any, Any]) -> None:
    ours, _ = nets
    saved = ours.state_dict()["scale"]
    assert not saved.requires_grad
    with vt.no_grad():
        ours.scale.fill_(7)
    assert saved.tolist() == [7.0] * 3
    assert ours.state_dict(keep_vars=True)["scale"] is ours.scale


def test_load_state_dict_errors_read_as_in_torch(nets: tuple[Any, Any]) -> None:
    messages = []
    for net, ones in zip(nets, (vt.ones, pt.ones), strict=True):
        state = dict(net.state_dict())
        del state["scale"], state["blocks.1.fc.bias"]
        state["unknown"] = ones(1)
        state["named.a.weight"] = ones(5, 5)
        with pytest.raises(RuntimeError) as caught:
            net.load_state_dict(state)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    missing, unexpected = nets[0].load_state_dict({"unknown": vt.ones(1)}, strict=False)
    assert "scale" in missing and unexpected == ["unknown"]


def test_load_state_dict_of_something_else(nets: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like"):
        nets[0].load_state_dict([1, 2])
    with pytest.raises(RuntimeError, match=r'"scale", expected torch\.Tensor'):
        nets[0].load_state_dict({"scale": 1.0}, strict=False)


def test_conversion(nets: tuple[Any, Any]) -> None:
    ours, _ = nets
    before = ours.scale
    ours(vt.ones(1, 3)).sum().backward()
    assert ours.double() is ours and ours.scale is before
    assert ours.scale.dtype == vt.float64 and ours.scale.grad.dtype == vt.float64
    assert ours.blocks[0].mask.dtype == vt.float64
    ours(vt.ones(1, 3, dtype=vt.float64)).sum().backward()
    assert ours.to(vt.bfloat16).scale.dtype == vt.bfloat16
    assert ours.to("cpu", vt.float32).scale.dtype == vt.float32
    assert ours.to(vt.ones(1, dtype=vt.float64)).scale.dtype == vt.float64
    with pytest.raises(TypeError, match="floating point dtypes"):
        ours.to(vt.int64)
    with pytest.raises(TypeError, match="unexpected keyword"):
        ours.to(where="cpu")


def test_train_eval_apply_and_freezing(nets: tuple[Any, Any]) -> None:
    ours, _ = nets
    assert ours.training and not ours.eval().blocks[1].fc.training
    assert ours.train().blocks[1].fc.training
    seen: list[str] = []
    ours.apply(lambda module: seen.append(type(module).__name__))
    assert seen[-1] == "Net" and seen.count("Linear") == 3
    ours.requires_grad_(False)
    assert not any(param.requires_grad for param in ours.parameters())


def test_zero_grad(nets: tuple[Any, Any]) -> None:
    ours, _ = nets
    ours(vt.ones(1, 3)).sum().backward()
    ours.zero_grad(set_to_none=False)
    assert ours.scale.grad.tolist() == [0.0] * 3
    ours.zero_grad()
    assert ours.scale.grad is None


def test_hooks() -> None:
    layer = vt.nn.Identity()
    x = vt.ones(2)
    with layer.register_forward_pre_hook(lambda module, args: (args[0] * 2,)):
        assert layer(x).tolist() == [2.0, 2.0]
    calls: list[str] = []
    layer.register_forward_hook(lambda module, args, out: calls.append("second"))
    first = layer.register_forward_hook(
        lambda module, args, out: calls.append("first"), prepend=True
    )
    assert layer(x).tolist() == [1.0, 1.0] and calls == ["first", "second"]
    first.remove()
    first.remove()
    layer.register_forward_hook(lambda module, args, kwargs, out: out + 1, with_kwargs=True)
    assert layer(x).tolist() == [2.0, 2.0] and calls[2:] == ["second"]


def test_attributes() -> None:
    net = vt.nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"cannot assign '.*' as parameter 'weight'"):
        net.weight = vt.ones(2, 2)
    net.bias = None
    assert [name for name, _ in net.named_parameters()] == ["weight"]
    assert net(vt.ones(1, 2)).shape == (1, 2)
    net.weight = vt.nn.Parameter(vt.zeros(2, 2))
    assert net(vt.ones(1, 2)).tolist() == [[0.0, 0.0]]
    del net.weight
    assert list(net.parameters()) == [] and not hasattr(net, "weight")
    net.extra = vt.nn.Identity()
    with pytest.raises(TypeError, match="as child module 'extra'"):
        net.extra = 3
    net.register_buffer("table", vt.ones(1))
    with pytest.raises(TypeError, match="as buffer 'table'"):
        net.table = 3
    net.table = vt.zeros(1)
    assert net.state_dict()["table"].tolist() == [0.0]


def test_registration_errors_are_those_of_torch() -> None:
    for name, error in (("a.b", KeyError), ("", KeyError), ("training", KeyError)):
        for nn, ones in ((vt.nn, vt.ones), (pt.nn, pt.ones)):
            with pytest.raises(error):
                nn.Module().register_buffer(name, ones(1))

    class Early(vt.nn.Module):
        def __init__(self) -> None:
            self.fc = vt.nn.Linear(1, 1)

    with pytest.raises(AttributeError, match="before Module"):
        Early()


def test_containers() -> None:
    nn = vt.nn
    row = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    row.append(nn.Linear(3, 1))
    assert len(row) == 3 and isinstance(row[-1], nn.Linear) and len(row[1:]) == 2
    row[1] = nn.Tanh()
    assert [type(module).__name__ for module in row] == ["Linear", "Tanh", "Linear"]
    del row[1]
    assert [name for name, _ in row.named_children()] == ["0", "1"]
    row.insert(1, nn.Identity())
    assert isinstance(row[1], nn.Identity)
    with pytest.raises(IndexError, match="out of range"):
        row[5]
    named = nn.Sequential({"in": nn.Linear(1, 1), "out": nn.Linear(1, 1)})
    assert next(iter(named.state_dict())) == "in.weight"
    table = nn.ModuleDict({"x": nn.ReLU()})
    table["y"] = nn.Tanh()
    del table["x"]
    assert list(table) == table.keys() == ["y"] and "x" not in table


def test_deep_copies_share_nothing(nets: tuple[Any, Any]) -> None:
    ours, _ = nets
    other = copy.deepcopy(ours)
    with vt.no_grad():
        ours.scale.fill_(5)
        ours.blocks[0].mask.fill_(5)
    assert other.scale.tolist() == [1.0] * 3 and other.scale.requires_grad
    assert other.blocks[0].mask.tolist() == [1.0] * 3
    assert list(other.state_dict()) == list(ours.state_dict())


def test_parameter() -> None:
    param = vt.nn.Parameter(vt.ones(2))
    assert param.requires_grad and param.is_leaf and isinstance(param, vt.Tensor)
    assert repr(param).startswith("Parameter containing:\ntensor([1., 1.]")
    assert type(param * 2) is vt.Tensor
    assert not vt.nn.Parameter(vt.ones(2), requires_grad=False).requires_grad
    with pytest.raises(TypeError, match="expected a Tensor"):
        vt.nn.Parameter([1.0])


def test_clip_grad_norm() -> None:
    pt.manual_seed(0)
    grads = [pt.randn(3, 4), pt.randn(5)]
    for norm in (1.0, 100.0, float("inf")):
        for kind in (2.0, 1.0, float("inf")):
            params_pt = [pt.zeros_like(grad, requires_grad=True) for grad in grads]
            params_vt = [vt.nn.Parameter(vt.zeros(*grad.shape)) for grad in grads]
            for a, b, grad in zip(params_pt, params_vt, grads, strict=True):
                a.grad, b.grad = grad.clone(), to_vt(grad)
            total_pt = pt.nn.utils.clip_grad_norm_(params_pt, norm, kind)
            total_vt = vt.nn.utils.clip_grad_norm_(params_vt, norm, kind)
            assert_close(total_vt, total_pt)
            for a, b in zip(params_pt, params_vt, strict=True):
                assert_close(b.grad, a.grad)
    params_vt[0].grad = vt.full((3, 4), float("nan"))
    with pytest.raises(RuntimeError, match="non-finite"):
        vt.nn.utils.clip_grad_norm_(params_vt, 1.0, error_if_nonfinite=True)


@pytest.mark.parametrize(
    ("fill", "low", "high", "std"),
    [
        (lambda t: vt.nn.init.uniform_(t, -2, 2), -2, 2, 4 / 12**0.5),
        (lambda t: vt.nn.init.normal_(t, 0, 3), -30, 30, 3),
        (lambda t: vt.nn.init.trunc_normal_(t, 0, 1, -1, 1), -1, 1, 0.54),
        (lambda t: vt.nn.init.kaiming_uniform_(t), -(6**0.5) / 10, 6**0.5 / 10, 2**0.5 / 10),
        (lambda t: vt.nn.init.kaiming_normal_(t, nonlinearity="relu"), -1, 1, 2**0.5 / 10),
        (lambda t: vt.nn.init.xavier_uniform_(t), -(6**0.5) / 20, 6**0.5 / 20, 2**0.5 / 20),
        (lambda t: vt.nn.init.xavier_normal_(t), -1, 1, 2**0.5 / 20),
    ],
)
def test_starting_values(fill: Any, low: float, high: float, std: float) -> None:
    vt.manual_seed(0)
    param = vt.nn.Parameter(vt.empty(300, 100))
    assert fill(param) is param or fill(param).data_ptr() == param.data_ptr()
    values = pt.tensor(param.tolist())
    assert low <= values.min() and values.max() <= high
    assert abs(values.std() / std - 1) < 0.03 and abs(values.mean()) < 0.03 * max(1, std)


def test_starting_values_out_of_reach() -> None:
    with pytest.raises(ValueError, match="nearer to the mean"):
        vt.nn.init.trunc_normal_(vt.empty(2), 0, 1, 8, 9)
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        vt.nn.init.xavier_uniform_(vt.empty(2))
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        vt.nn.init.calculate_gain("magic")
