"""What a step depends on beside its arguments: random numbers of the host, modes of modules."""

from __future__ import annotations

import random

import numpy as np

import vibetensor.torch as torch
from vibetensor import nn
from vibetensor.host_state import HostRandom, Modes


def test_draws_from_every_generator_of_the_host_are_seen_and_undone() -> None:
    draws = {
        "Python's random": random.random,
        "numpy.random": np.random.rand,
        "CPU's generator": lambda: torch.rand(3).tolist(),
    }
    for name, draw in draws.items():
        noted = HostRandom()
        assert noted.used() == ""
        first = draw()
        assert name in noted.used()
        noted.restore()
        assert noted.used() == ""
        assert draw() == first


def test_generators_that_a_step_reaches_are_seen_and_undone() -> None:
    numbers, dice = np.random.default_rng(1), random.Random(2)

    class Owner:
        def __init__(self) -> None:
            self.options = {"numbers": numbers}

        def step(self) -> float:
            return float(self.options["numbers"].random())

    for step in (lambda: float(numbers.normal()), Owner().step, lambda: dice.random()):
        noted = HostRandom(step)
        assert noted.used() == ""
        first = step()
        assert "a generator of random numbers on the host" in noted.used()
        noted.restore()
        assert noted.used() == "" and step() == first
    assert HostRandom(lambda: 3).used() == ""


def test_modes_follow_the_modules_that_a_step_reaches() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    other = nn.Linear(2, 2)

    def step(x: torch.Tensor) -> torch.Tensor:
        return net(x)

    class Owner:
        def __init__(self) -> None:
            self.parts = [net]

        def step(self, x: torch.Tensor) -> torch.Tensor:
            return self.parts[0](x)

    for modes in (Modes(step), Modes(Owner().step), Modes(net)):
        net.train()
        training = modes.now()
        assert training == (True, True, True)
        other.eval()
        assert modes.now() == training
        net.eval()
        assert modes.now() == (False, False, False)
        net.train()
        assert modes.now() == training
        other.train()


def test_parameters_that_are_others_are_seen() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3, bias=False))
    modes = Modes(lambda x: net(x))
    first = modes.parameters()
    assert first == tuple(id(p) for p in net.parameters()) and modes.parameters() is first
    net[1] = nn.Linear(2, 3)
    second = modes.parameters()
    assert len(second) == 4 and second[:2] == first[:2] and first[2] not in second
    net[0].bias = None
    assert modes.parameters() == (second[0], *second[2:])
    del net[1]
    assert len(modes.parameters()) == 1
    net[0].weight = nn.Parameter(torch.ones(2, 2))
    assert modes.parameters() == (id(net[0].weight),)
    assert modes.tensors() == []  # of a GPU


def test_hooks_that_come_and_go_are_seen() -> None:
    net = nn.Linear(2, 2)
    modes = Modes(lambda x: net(x))
    bare = modes.parameters()
    handle = net.register_forward_hook(lambda *_: None)
    one = modes.parameters()
    assert one != bare and modes.parameters() is one
    handle.remove()
    assert modes.parameters() not in (one,)
    other = net.register_forward_pre_hook(lambda *_: None)
    assert modes.parameters() != one
    other.remove()
