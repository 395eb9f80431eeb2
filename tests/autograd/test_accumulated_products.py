"""Gradients of several passes in an arena: products are added to what lies there."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import nn

places = pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])


def layers(place: str, dtype: Any, arena: bool) -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(12, 20), nn.GELU(approximate="tanh"), nn.Linear(20, 5, bias=False)
    )
    net = net.to(dtype).to(place)
    if arena:  # the first step lays parameters and gradients out
        optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
        net(torch.zeros(1, 12, device=place).to(dtype)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return net


def batch(place: str, dtype: Any, i: int) -> Any:
    torch.manual_seed(50 + i)
    return torch.randn(7 + i, 12).to(dtype).to(place)


def grads(net: nn.Module) -> list[np.ndarray]:
    return [np.array(p.grad.detach().double().cpu()) for p in net.parameters()]


@places
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_passes_add_up(dtype: str, place: str) -> None:
    kind = getattr(torch, dtype)
    plain, flat = layers(place, kind, False), layers(place, kind, True)
    slots = None
    for i in range(4):
        for net in (plain, flat):
            (net(batch(place, kind, i)) ** 2).sum().backward()
        now = [p.grad.data_ptr() for p in flat.parameters()]
        assert slots in (None, now)
        slots = now
        bound = {"float64": 1e-13, "float32": 1e-5, "bfloat16": 3e-2}[dtype]
        for a, b in zip(grads(flat), grads(plain), strict=True):
            np.testing.assert_allclose(a, b, rtol=bound, atol=bound * np.abs(b).max())


@places
def test_gradients_asked_for_are_not_added(place: str) -> None:
    net = layers(place, torch.float32, True)
    net(batch(place, torch.float32, 0)).sum().backward()
    before = grads(net)
    found = torch.autograd.grad(net(batch(place, torch.float32, 1)).sum(), list(net.parameters()))
    for a, b in zip(grads(net), before, strict=True):
        assert np.array_equal(a, b)
    net.zero_grad()
    net(batch(place, torch.float32, 1)).sum().backward()
    for a, g in zip(grads(net), found, strict=True):
        np.testing.assert_allclose(np.array(g.detach().double().cpu()), a, rtol=1e-6, atol=1e-6)


@places
def test_a_weight_that_is_used_twice(place: str) -> None:
    net = layers(place, torch.float64, True)
    weight = net[0].weight
    total = 0
    for i in range(3):
        x = batch(place, torch.float64, i)
        y = nn.functional.linear(x, weight).sum() + nn.functional.linear(x * 2, weight).sum()
        y.backward()
        total = total + 3 * np.array(x.cpu()).sum(0)
        expected = np.broadcast_to(total, weight.shape)
        np.testing.assert_allclose(np.array(weight.grad.cpu()), expected, rtol=1e-12)


@places
def test_hooks_see_one_pass(place: str) -> None:
    net = layers(place, torch.float64, True)
    seen: list[Any] = []
    net[2].weight.register_hook(lambda g: seen.append(g.clone()))
    for i in range(2):
        net(batch(place, torch.float64, i)).sum().backward()
    first, second = (np.array(s.cpu()) for s in seen)
    np.testing.assert_allclose(np.array(net[2].weight.grad.cpu()), first + second, rtol=1e-12)


def test_passes_of_several_threads_add_up() -> None:
    weight = layers("cpu", torch.float64, True)[0].weight
    count, rounds = 6, 40

    def work() -> None:
        for _ in range(rounds):
            nn.functional.linear(torch.ones(3, 12).double(), weight).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(np.array(weight.grad), np.full((20, 12), 3.0 * count * rounds))


@pytest.mark.cuda
@pytest.mark.parametrize("fuse", [False, True])
def test_captured_passes_have_the_bits_of_eager_ones(fuse: bool) -> None:
    def train(capture: bool) -> list[np.ndarray]:
        net = layers("cuda", torch.bfloat16, True)
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)

        def step(a: Any, b: Any) -> Any:
            optimizer.zero_grad()
            for x in (a, b, a * 2):
                loss = (net(x).float() ** 2).sum()
                loss.backward()
            optimizer.step()
            return loss

        call = vibetensor.capture(step, fuse=fuse, strict=True) if capture else step
        for i in range(6):
            call(*(batch("cuda", torch.bfloat16, k)[:6] for k in (i, i + 10)))
        return [np.array(p.detach().float().cpu()) for p in net.parameters()]

    for a, b in zip(train(False), train(True), strict=True):
        if fuse:
            np.testing.assert_allclose(b, a, rtol=2e-2, atol=2e-3)
        else:
            assert np.array_equal(a, b)
