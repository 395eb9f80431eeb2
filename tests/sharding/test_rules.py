"""Every sharding rule: on all ranks an operator gives what it gives on one device."""

from __future__ import annotations

import itertools
import zlib

import cases
import pytest

import vibetensor.torch as torch
from vibetensor import fabric


def make(description):
    """A tensor as a case describes it; numbers are leaves."""
    if description[:1] == ("index",):
        _, shape, below = description
        return torch.randint(below, shape)
    if description[:1] == ("mask",):
        return torch.rand(*description[1]) > 0.5
    values = torch.randn(*description) if description else torch.randn(1).reshape(())
    return values.requires_grad_()


def placements(tensor):
    """All placements of a tensor: sums of terms only of numbers."""
    found = [fabric.Replicate(), *(fabric.Shard(d) for d in range(tensor.ndim))]
    if tensor.dtype == torch.float32:
        found.append(fabric.Partial())
    return found


def place(tensor, mesh, placement):
    """The tensor on the fabric, its terms random where it is a sum."""
    if not placement.is_partial():
        return fabric.distribute(tensor, mesh, placement)
    # Whole numbers: what is whole stays exact.
    shape = list(tensor.shape)
    terms = [torch.randint(-3, 4, shape).to(tensor.dtype) for _ in range(len(mesh) - 1)]
    with torch.no_grad():
        rest = tensor.detach().clone()
        for term in terms:
            rest -= term
    pairs = zip([rest, *terms], mesh.devices, strict=True)
    own = [term.to(device).detach() for term, device in pairs]
    return fabric.from_local_shards(own, mesh, placement).requires_grad_(tensor.requires_grad)


@pytest.mark.parametrize("name", cases.CASES)
def test_operator_matches_one_device(name, mesh):
    torch.manual_seed(zlib.crc32(name.encode()))
    run, descriptions = cases.CASES[name]
    inputs = [make(d) for d in descriptions]
    expected = run(*inputs)
    weight = torch.randn(*expected.shape) if expected.ndim else torch.ones(1).reshape(())
    weight = weight.to(expected.dtype)
    if expected.requires_grad:
        (expected * weight).sum().backward()
    choices = list(itertools.product(*(placements(t) for t in inputs)))
    if len(choices) > 80:
        choices = choices[:: len(choices) // 80 + 1]
    for chosen in choices:
        ours = [place(t, mesh, p) for t, p in zip(inputs, chosen, strict=False)]
        result = run(*ours)
        where = f"{name} of {chosen} gives {result.placement}"
        assert tuple(result.shape) == tuple(expected.shape), where
        whole = result.full_tensor().to("cpu")
        assert whole.dtype == expected.dtype, where
        assert torch.allclose(whole, expected, rtol=1e-4, atol=1e-5), where
        if not expected.requires_grad:
            continue
        loss = (result * fabric.distribute(weight, mesh, fabric.Replicate())).sum()
        loss.backward()
        for number, (our, theirs) in enumerate(zip(ours, inputs, strict=False)):
            if theirs.requires_grad:
                grad = our.grad
                assert grad is not None, f"{where}, input {number} has no gradient"
                close = torch.allclose(
                    grad.full_tensor().to("cpu"), theirs.grad, rtol=1e-3, atol=1e-4
                )
                assert close, f"{where}, gradient of input {number} ({grad.placement})"
