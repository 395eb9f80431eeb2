"""Indices out of range are the same errors where what they point into is cut."""

from __future__ import annotations

import pytest

import vibetensor.torch as torch
from vibetensor import fabric

R, S = fabric.Replicate, fabric.Shard
F = torch.nn.functional


def message(function, *args, **options):
    with pytest.raises(IndexError) as caught:
        function(*args, **options).tolist()
    return str(caught.value).split(" on cuda")[0]


@pytest.mark.parametrize("bad", [-1, 16, 1 << 40])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_target_out_of_range_of_cut_classes(bad, reduction, dtype, mesh):
    x, y = torch.randn(6, 16).to(dtype), torch.tensor([3, -100, 5, 0, bad, 15])
    device = mesh.devices[0]
    plain = message(F.cross_entropy, x.to(device), y.to(device), reduction=reduction)
    for place in (S(0), S(1), R()):
        logits = fabric.distribute(x, mesh, place).requires_grad_()
        target = fabric.distribute(y, mesh, R())
        found = message(F.cross_entropy, logits, target, reduction=reduction)
        if place == S(0) and "position" in found:  # of the rank's rows
            found, plain_here = found.split(" at")[0], plain.split(" at")[0]
        else:
            plain_here = plain
        assert found == plain_here, place


@pytest.mark.parametrize("bad", [-1, 10, 1 << 40])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
def test_an_index_out_of_range_of_cut_rows(bad, dtype, mesh):
    if bad > 1 << 31 and dtype == torch.int32:
        bad = (1 << 31) - 1
    table, index = torch.randn(10, 3), torch.tensor([[1, 9], [bad, 0]]).to(dtype)
    device = mesh.devices[0]
    plain = message(F.embedding, index.to(device), table.to(device))
    for place in (S(0), S(1), R()):
        rows = fabric.distribute(table, mesh, place)
        at = fabric.distribute(index, mesh, R())
        assert message(F.embedding, at, rows) == plain, place


def test_nothing_is_left_of_an_error(mesh):
    """The next calls are right, and raise nothing."""
    table = fabric.distribute(torch.randn(10, 3), mesh, S(0))
    bad, good = (fabric.distribute(torch.tensor([i]), mesh, R()) for i in (10, 9))
    message(F.embedding, bad, table)
    expected = table.full_tensor().to("cpu")[9]
    assert torch.equal(F.embedding(good, table).full_tensor().to("cpu")[0], expected)
    if mesh.devices[0].type == "cuda":
        for device in mesh.devices:
            torch.cuda.synchronize(device)


def test_ignored_targets_that_are_classes(mesh):
    """As on one device, where ignore_index is a class: its rows count nothing."""
    x, y = torch.randn(5, 8), torch.tensor([3, 0, 7, 3, 1])
    logits = fabric.distribute(x, mesh, S(1)).requires_grad_()
    here = x.clone().requires_grad_()
    expected = F.cross_entropy(here, y, ignore_index=3)
    loss = F.cross_entropy(logits, fabric.distribute(y, mesh, R()), ignore_index=3)
    assert torch.allclose(loss.full_tensor().to("cpu"), expected, atol=1e-6)
    expected.backward()
    loss.backward()
    assert torch.allclose(logits.grad.full_tensor().to("cpu"), here.grad, atol=1e-6)
