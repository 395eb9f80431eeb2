"""Fabric tensors themselves: made, moved between placements, taken apart, and what they refuse."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vibetensor
import vibetensor.torch as torch
from vibetensor import fabric

R, S, P = fabric.Replicate, fabric.Shard, fabric.Partial


def whole(t):
    return t.full_tensor().to("cpu")


@pytest.mark.parametrize("shape", [(8, 4, 12), (5, 7, 3), (1, 2, 9), (0, 4, 4)], ids=str)
def test_reshard_between_all_pairs(shape, mesh):
    x = torch.randn(*shape)
    places = [R(), S(0), S(1), S(-1), P()]
    for first, second in itertools.product(places, places):
        t = fabric.distribute(x, mesh, first).requires_grad_()
        moved = t.reshard(second)
        where = f"{first} to {second}"
        assert moved.placement == (S(2) if second == S(-1) else second), where
        assert tuple(moved.shape) == shape, where
        assert torch.equal(whole(moved), x), where
        assert torch.equal(fabric.gather(moved, len(mesh) - 1).to("cpu"), x), where
        weight = torch.randn(*shape)
        (moved * fabric.distribute(weight, mesh, R())).sum().backward()
        assert torch.allclose(whole(t.grad), weight, atol=1e-6), where


@given(
    shape=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    moves=st.lists(st.integers(-1, 4), min_size=1, max_size=5),
    dtype=st.sampled_from([torch.float32, torch.int64, torch.float64, torch.bfloat16]),
)
@settings(max_examples=60, deadline=None)
def test_any_walk_between_placements_keeps_the_values(shape, moves, dtype):
    vibetensor.set_cpu_devices(4)
    mesh = fabric.mesh([f"cpu:{i}" for i in range(3)])
    x = (torch.randn(*shape) * 8).to(dtype)
    t = fabric.distribute(x, mesh, R())
    for move in moves:
        t = t.reshard(
            R()
            if move < 0
            else P()
            if move >= len(shape) and not t.placement.is_partial()
            else S(move % len(shape))
        )
        assert list(t.shape) == shape
    assert torch.equal(whole(t), x)


def test_shards_are_cut_like_chunks(mesh):
    n = len(mesh)
    x = torch.arange(2 * n + 1)
    t = fabric.distribute(x, mesh, S(0))
    locals = t.to_local_shards()
    assert [str(s.device) for s in locals] == [str(d) for d in mesh.devices]
    assert [s.tolist() for s in locals] == [
        list(range(2 * n + 1))[3 * r : 3 * r + 3] for r in range(n)
    ]
    again = fabric.from_local_shards(locals, mesh, S(0))
    assert torch.equal(whole(again), x)


def test_reductions_of_partial_values(mesh):
    values = [torch.full((3,), float(r + 1)).to(d) for r, d in enumerate(mesh.devices)]
    n = len(mesh)
    for op, expected in (("sum", n * (n + 1) / 2), ("avg", (n + 1) / 2), ("max", n), ("min", 1)):
        t = fabric.from_local_shards(values, mesh, P(op))
        assert whole(t.reshard(R())).tolist() == [expected] * 3
        assert whole(t + 0).tolist() == [expected] * 3


def test_local_shards_carry_gradients(mesh):
    t = fabric.distribute(torch.ones(len(mesh) * 2), mesh, R()).requires_grad_()
    sum_of_all = sum(s.sum().to("cpu") * (r + 1) for r, s in enumerate(t.to_local_shards()))
    sum_of_all.backward()
    n = len(mesh)
    assert whole(t.grad).tolist() == [n * (n + 1) / 2] * (2 * n)


def test_properties(mesh):
    t = fabric.distribute(torch.zeros(4, 6), mesh, S(1))
    assert (t.ndim, t.dim(), t.numel(), t.size(1), len(t)) == (2, 2, 24, 6, 4)
    assert t.dtype == torch.float32
    assert t.mesh == mesh
    assert t.is_leaf
    assert not t.requires_grad
    assert repr(t).startswith("FabricTensor(f32[4, 6] Shard(1) on ")
    assert (t.placement.dim, t.placement.op) == (1, None)
    assert str(P("max")) == "Partial('max')"
    assert len({R(), R(), S(0), S(1), P(), P("max")}) == 5


def test_in_place(mesh):
    x = torch.randn(4, 8)
    t = fabric.distribute(x, mesh, S(0))
    same = t
    t += fabric.distribute(torch.ones(8), mesh, R())
    t.mul_(2).clamp_(min=-1)
    assert t is same
    assert torch.allclose(whole(t), ((x + 1) * 2).clamp(min=-1))
    t.zero_()
    assert whole(t).abs().sum().item() == 0
    leaf = fabric.distribute(x, mesh, R()).requires_grad_()
    with pytest.raises(RuntimeError, match="leaf Variable"):
        leaf.add_(1)
    with torch.no_grad():
        leaf.add_(1)
    assert torch.equal(whole(leaf.detach()), x + 1)


def test_dropout_drops_alike_on_copies_and_differently_on_shards(mesh):
    torch.manual_seed(4)
    x = torch.ones(64 * len(mesh))
    same = torch.nn.functional.dropout(fabric.distribute(x, mesh, R()), 0.5)
    first, *rest = (s.to("cpu") for s in same.to_local_shards())
    assert all(torch.equal(first, other) for other in rest)
    cut = torch.nn.functional.dropout(fabric.distribute(x, mesh, S(0)), 0.5)
    first, *rest = (s.to("cpu") for s in cut.to_local_shards())
    assert all(not torch.equal(first, other) for other in rest)
    assert 0.3 < whole(cut).mean().item() / 2 < 0.7


# --- what is refused, and what is said then -------------------------------------------------------


def test_an_operator_without_a_rule_names_placements_and_the_way_out(mesh):
    t = fabric.distribute(torch.ones(4, 4), mesh, S(0))
    with pytest.raises(
        NotImplementedError, match=r"nonzero: .*Shard\(0\).*reshard\(Replicate\(\)\)"
    ):
        torch.nonzero(t)
    assert whole(torch.nonzero(t.reshard(R()))).shape[0] == 16
    with pytest.raises(NotImplementedError, match=r"randn_like: .*distribute"):
        torch.randn_like(t)


def test_tensors_of_one_device_are_not_mixed_in(mesh):
    x = torch.ones(4, 4)
    t = fabric.distribute(x, mesh, S(0))
    for call in (lambda: t + x, lambda: x + t, lambda: torch.where(t > 0, t, x), lambda: t @ x):
        with pytest.raises(TypeError, match=r"fabric\.distribute"):
            call()
    with pytest.raises(TypeError, match="must be a FabricTensor"):
        torch.cat([t, x])


def test_meshes_are_not_mixed():
    vibetensor.set_cpu_devices(4)
    a, b = fabric.mesh(["cpu:0", "cpu:1"]), fabric.mesh(["cpu:0", "cpu:2"])
    x = torch.ones(4)
    with pytest.raises(vibetensor.FabricError, match=r"add: .*one mesh.*cpu:1.*cpu:2"):
        fabric.distribute(x, a, R()) + fabric.distribute(x, b, R())


def test_wrong_placements(mesh):
    x = torch.ones(4, 4)
    with pytest.raises(IndexError, match="Shard"):
        fabric.distribute(x, mesh, S(2))
    with pytest.raises(ValueError, match="0-d"):
        fabric.distribute(x.sum(), mesh, S(0))
    with pytest.raises(ValueError, match=r"Partial\('max'\)"):
        fabric.distribute(x, mesh, P("max"))
    with pytest.raises(ValueError, match="Partial"):
        fabric.distribute(x, mesh, R()).reshard(P("min"))
    with pytest.raises(NotImplementedError, match="gradient"):
        fabric.from_local_shards(
            [torch.ones(2, device=d, requires_grad=True) for d in mesh.devices], mesh, P("max")
        ).reshard(R())


def test_shards_that_do_not_fit(mesh):
    good = [torch.ones(2, 3).to(d) for d in mesh.devices]
    with pytest.raises(ValueError, match="one a rank"):
        fabric.from_local_shards(good[:-1], mesh, S(0))
    with pytest.raises(ValueError, match="rank 1 has"):
        fabric.from_local_shards([good[0], good[1][:1], *good[2:]], mesh, R())
    with pytest.raises(ValueError, match="rank 0 has"):
        fabric.from_local_shards([good[0][:1], *good[1:]], mesh, S(0))
    with pytest.raises(ValueError, match="rank 1 has f32"):
        fabric.from_local_shards([good[0].double(), *good[1:]], mesh, S(0))


def test_backward_needs_a_number_or_a_gradient(mesh):
    t = fabric.distribute(torch.ones(4), mesh, S(0)).requires_grad_()
    with pytest.raises(RuntimeError, match="scalar outputs"):
        (t * 2).backward()
    (t * 2).backward(fabric.distribute(torch.arange(4.0), mesh, R()))
    assert whole(t.grad).tolist() == [0, 2, 4, 6]
    with pytest.raises(RuntimeError, match="does not require grad"):
        t.detach().sum().backward()


def test_a_plan_that_fits_nothing(mesh):
    with pytest.raises(ValueError, match="'upp' fits no"):
        fabric.distribute_module(torch.nn.Linear(4, 4), mesh, {"upp": "column"})
    with pytest.raises(ValueError, match="'column', 'row'"):
        fabric.distribute_module(torch.nn.Linear(4, 4), mesh, {"*": "diagonal"})


def test_tensors_are_made_on_a_mesh(mesh):
    t = fabric.distribute(torch.ones(4, 4), mesh, S(0))
    assert t.device == mesh
    positions = torch.arange(4, device=t.device)
    assert positions.placement == R()
    assert whole(positions).tolist() == [0, 1, 2, 3]
    noise = torch.randn(3, 3, device=mesh, requires_grad=True)
    assert noise.requires_grad
    first, *rest = (s.to("cpu") for s in noise.to_local_shards())
    assert all(torch.equal(first, other) for other in rest)
    zeros = torch.zeros_like(t, dtype=torch.int64)
    assert (zeros.placement, zeros.dtype) == (S(0), torch.int64)
    ones = torch.ones_like(fabric.distribute(torch.ones(4), mesh, P()), device=mesh)
    assert whole(ones).tolist() == [1] * 4
    assert t.to(mesh).placement == S(0)
    with pytest.raises(TypeError, match="its own mesh"):
        t.to("cpu")
    with pytest.raises(ValueError, match="its own mesh"):
        torch.zeros_like(t, device="cpu")


def test_attention_with_dropout_needs_a_cut(mesh):
    q = fabric.distribute(torch.randn(4, 4, 3, 8), mesh, R())
    attention = torch.nn.functional.scaled_dot_product_attention
    with pytest.raises(NotImplementedError, match=r"dropout_p 0.5.*reshard"):
        attention(q, q, q, dropout_p=0.5)
    cut = q.reshard(S(0))
    assert attention(cut, cut, cut, dropout_p=0.5).placement == S(0)


@pytest.mark.parametrize("place", [R(), S(0), S(1), P()], ids=str)
def test_the_whole_on_one_device_carries_gradients(place, mesh):
    x, weight = torch.randn(5, 4), torch.randn(5, 4)
    for whole_of in (lambda t: t.full_tensor(), lambda t: fabric.gather(t, len(mesh) - 1)):
        t = fabric.distribute(x, mesh, place).requires_grad_()
        taken = whole_of(t * 2)
        (taken * weight.to(taken.device)).sum().backward()
        assert torch.allclose(whole(t.grad), 2 * weight)


def test_placements_are_of_classes(mesh):
    found = fabric.distribute(torch.ones(4), mesh, S(0)).placement
    for placement in (found, S(0)):
        assert isinstance(placement, fabric.Shard)
        assert isinstance(placement, fabric.Placement)
        assert not isinstance(placement, (fabric.Replicate, fabric.Partial))
    assert found == S(0)
    assert hash(found) == hash(S(0))
    assert isinstance(P("max"), fabric.Partial)
    assert not isinstance(3, fabric.Replicate)


def test_values_as_python_has_them(mesh):
    t = fabric.distribute(torch.arange(6.0).reshape(2, 3), mesh, S(1))
    assert t.tolist() == [[0, 1, 2], [3, 4, 5]]
    total = t.sum()
    assert (float(total), int(total), bool(total), f"{total:.2f}") == (15.0, 15, True, "15.00")
    assert f"{t}" == repr(t)
    for convert in (float, bool):
        with pytest.raises((RuntimeError, ValueError)):
            convert(t)


def test_what_is_no_operand(mesh):
    t = fabric.distribute(torch.ones(4), mesh, S(0))
    assert (t == None) is False  # noqa: E711
    assert (t != "text") is True
    with pytest.raises(TypeError, match="unsupported operand"):
        t + "text"
    with pytest.raises(TypeError, match="index_select"):
        t[torch.tensor([0, 1])]
    with pytest.raises(TypeError, match="one device"):
        torch.allclose(t, t)
