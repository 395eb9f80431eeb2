"""make_graphed_callables: parts of a model as graphs train as the eager parts do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import steps

import vibetensor.torch as torch
from vibetensor import nn

pytestmark = pytest.mark.cuda


def make() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(2)
    return steps.Mlp().to("cuda"), nn.Linear(8, 8).to("cuda")


def train(graphed: bool) -> list[np.ndarray]:
    first, second = make()
    params = [*first.parameters(), *second.parameters()]
    optimizer = torch.optim.SGD(params, lr=0.1)
    parts: tuple[Any, Any] = (first, second)
    if graphed:
        sample = torch.zeros(16, 24, device="cuda")
        between = torch.zeros(16, 8, device="cuda", requires_grad=True)
        parts = torch.cuda.make_graphed_callables(parts, ((sample,), (between,)))
    torch.manual_seed(4)
    for x, y in steps.batches(8):
        optimizer.zero_grad()
        nn.functional.cross_entropy(parts[1](parts[0](x)), y).backward()
        optimizer.step()
    return [np.array(param.detach().cpu()) for param in params]


def test_training_has_the_bits_of_the_eager_parts() -> None:
    for a, b in zip(train(False), train(True), strict=True):
        assert np.array_equal(a, b)


def test_a_function_gets_gradients_for_its_inputs() -> None:
    def f(x: torch.Tensor, w: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"product": x @ w, "sum": x.exp().sum()}

    x = torch.randn(5, 4, device="cuda", requires_grad=True)
    w = torch.randn(4, 3, device="cuda", requires_grad=True)
    graphed = torch.cuda.make_graphed_callables(f, (x, w))
    for _ in range(3):
        x = torch.randn(5, 4, device="cuda", requires_grad=True)
        w = torch.randn(4, 3, device="cuda", requires_grad=True)
        found = []
        for function in (f, graphed):
            x.grad = w.grad = None
            out = function(x, w)
            (out["product"].square().sum() + out["sum"]).backward()
            found.append([np.array(t.detach().cpu()) for t in (out["product"], x.grad, w.grad)])
        for a, b in zip(*found, strict=True):
            assert np.array_equal(a, b)
    with pytest.raises(RuntimeError, match="captured with"):
        graphed(x.double(), w)


def test_a_module_runs_eagerly_in_the_other_mode() -> None:
    model, _ = make()
    x = torch.ones(16, 24, device="cuda")
    model.eval()
    expected = np.array(model(x).detach().cpu())
    model.train()
    torch.cuda.make_graphed_callables(model, (x,))
    model.eval()
    assert np.array_equal(np.array(model(x).detach().cpu()), expected)
