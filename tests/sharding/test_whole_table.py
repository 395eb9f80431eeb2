"""Every operator of the table on fabric tensors, with the table's own inputs, in all placements.

Their sizes are odd over four ranks. An operator without a rule runs on replicated tensors.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
from test_rules import place, placements

import vibetensor.torch as torch
from vibetensor import fabric

sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))
from operator_cases import CASES, Case, flat_results, to_ours

TRIED = [c for c in CASES if c.tensors and "values" not in c.test]
VARIANTS = ("plain", "broadcast", "empty", "zero_dim")
LIMIT = {"cpu": 48, "cuda": 4}  # combinations of placements


def fabric_inputs(arguments, mesh, chosen):
    chosen = list(chosen)
    return [place(a, mesh, chosen.pop(0)) if isinstance(a, torch.Tensor) else a for a in arguments]


def gradients(results, weights, inputs):
    loss = None
    for result, weight in zip(results, weights, strict=True):
        if weight is not None and result.requires_grad:
            term = (result * weight).sum()
            loss = term if loss is None else loss + term
    if loss is not None:
        loss.backward()
    return [i.grad if getattr(i, "requires_grad", False) else None for i in inputs]


def close(mine, theirs, case):
    mine = mine.full_tensor().to("cpu")
    assert mine.dtype == theirs.dtype
    assert mine.shape == theirs.shape
    if theirs.dtype in (torch.float32, torch.float64):
        tolerance = max(2e-5, case.test.get("tol", {}).get("float32", 0.0))
        return torch.allclose(mine, theirs, rtol=5 * tolerance, atol=tolerance, equal_nan=True)
    return torch.equal(mine, theirs)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", TRIED, ids=lambda c: c.id)
def test_operator(case: Case, variant: str, mesh: fabric.Mesh) -> None:
    if mesh.type == "cuda" and (variant != "plain" or mesh[0] != mesh[1]):
        pytest.skip("the rules are the same, and one GPU is enough")
    torch.manual_seed(1)
    given = case.arguments("float32", variant)
    if given is None:
        pytest.skip("the table leaves this variant out")
    ours = [to_ours(t) for t in given]
    tensors = [t for t in ours if isinstance(t, torch.Tensor)]
    for t in tensors:
        if t.dtype == torch.float32 and not case.op.mutates:
            t.requires_grad_()
    copies = [t.detach().clone().requires_grad_(t.requires_grad) for t in tensors]
    try:
        expected = flat_results(case.ours(ours, case.kwargs))
    except (IndexError, RuntimeError, TypeError, ValueError):  # what one device refuses
        pytest.skip("one device refuses this")
    weights = [
        torch.randn(*r.shape).to(r.dtype) if r.dtype == torch.float32 and r.ndim else None
        for r in expected
    ]
    wanted = gradients(expected, weights, ours)
    refused = []
    choices = list(itertools.product(*(placements(t) for t in copies)))
    for chosen in choices[:: len(choices) // LIMIT[mesh.type] + 1]:
        where = f"{case.id} of {[str(p) for p in chosen]}"
        inputs, left = [], list(copies)
        for a in ours:
            inputs.append(left.pop(0) if isinstance(a, torch.Tensor) else a)
        inputs = fabric_inputs(inputs, mesh, chosen)
        try:
            results = flat_results(case.ours(inputs, case.kwargs))
        except NotImplementedError as error:
            refused.append(str(error))
            assert any(not p.is_replicate() for p in chosen), f"{where}: {error}"
            assert case.op.name in str(error)
            assert "reshard" in str(error)
            continue
        assert len(results) == len(expected)
        if case.test.get("ties"):
            results, kept = results[:1], expected[:1]
            if case.op.name == "argsort":
                continue
        else:
            kept = expected
        for mine, theirs in zip(results, kept, strict=True):
            assert close(mine, theirs, case), f"{where} gives {mine.placement}"
        placed = [
            None if w is None else fabric.distribute(w, mesh, fabric.Replicate())
            for w in weights[: len(results)]
        ]
        found = gradients(results, placed, inputs)
        for number, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
            if theirs is not None:
                assert mine is not None, f"{where}: input {number} has no gradient"
                tolerance = max(1e-4, case.test.get("tol", {}).get("float32", 0.0))
                same = torch.allclose(
                    mine.full_tensor().to("cpu"), theirs, rtol=1e-3, atol=tolerance, equal_nan=True
                )
                assert same, f"{where}: gradient of input {number}"
