"""Corners of sharding rules: masks of fewer dimensions, 16-bit sums, rows that nobody asked for."""

from __future__ import annotations

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import fabric

F = torch.nn.functional


def whole(t):
    return t.full_tensor().float().cpu().numpy()


def test_attention_takes_a_mask_of_fewer_dimensions(mesh):
    q, mask = torch.randn(2, 4, 8, 4).to(mesh[0]), torch.randn(4, 8, 8).to(mesh[0])
    wanted = F.scaled_dot_product_attention(q, q, q, mask)
    for placement in (fabric.Shard(0), fabric.Shard(1)):
        cut = fabric.distribute(q, mesh, placement)
        found = F.scaled_dot_product_attention(
            cut, cut, cut, fabric.distribute(mask, mesh, fabric.Replicate())
        )
        np.testing.assert_allclose(whole(found), wanted.cpu().numpy(), rtol=1e-5, atol=1e-6)


def test_a_norm_in_16_bits_does_not_overflow(mesh):
    x = torch.full((1000,), 10.0).to(torch.float16)
    found = fabric.distribute(x, mesh, fabric.Shard(0)).norm()
    assert float(found) == float(x.norm())


def test_a_mean_loss_in_16_bits_does_not_overflow(mesh):
    torch.manual_seed(0)
    logits = (torch.randn(32768, 8) * 8).to(torch.float16)
    target = torch.randint(8, (32768,))
    wanted = float(F.cross_entropy(logits, target))
    cut = [fabric.distribute(t, mesh, fabric.Shard(0)) for t in (logits, target)]
    assert abs(float(F.cross_entropy(*cut)) - wanted) < 0.01 * wanted


def test_small_losses_survive_cut_classes(mesh):
    logits = torch.zeros(16, 8)
    logits[:, 0].fill_(12.0)
    logits, target = logits.to(torch.bfloat16), torch.zeros(16, dtype=torch.int64)
    wanted = float(F.cross_entropy(logits, target))
    found = F.cross_entropy(fabric.distribute(logits, mesh, fabric.Shard(1)), target_on(mesh))
    assert wanted > 0 and abs(float(found) - wanted) < 0.02 * wanted


def target_on(mesh):
    return fabric.distribute(torch.zeros(16, dtype=torch.int64), mesh, fabric.Replicate())


def test_rows_of_a_cut_table_that_nobody_asked_for_do_no_harm(mesh):
    weight = torch.randn(8, 3)
    weight[2].fill_(float("inf"))
    index = torch.tensor([0, 1, 7])
    found = F.embedding(
        fabric.distribute(index, mesh, fabric.Replicate()),
        fabric.distribute(weight, mesh, fabric.Shard(0)),
    )
    np.testing.assert_array_equal(whole(found), F.embedding(index, weight).numpy())


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[0].zero_(),
        lambda x: x[:2].fill_(9),
        lambda x: x.unbind(0)[1].zero_(),
        lambda x: x.chunk(2)[1].zero_(),
        lambda x: x.view(2, 8).add_(1),
        lambda x: x.t()[0].zero_(),
        lambda x: x[:, 0].zero_(),
        lambda x: x.unsqueeze(0).mul_(2),
        lambda x: x.add_(1),
    ],
)
@pytest.mark.parametrize("dim", [0, 1])
def test_changes_through_views_arrive_or_are_refused(mesh, change, dim):
    plain = torch.arange(16).float().reshape(4, 4)
    cut = fabric.distribute(plain, mesh, fabric.Shard(dim))
    change(plain)
    try:
        change(cut)
    except NotImplementedError as error:
        assert "in place" in str(error)
        return
    np.testing.assert_array_equal(whole(cut), plain.numpy())
