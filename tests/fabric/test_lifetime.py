"""Memory that a peer still reads is neither overwritten nor handed out again before it was read."""

from __future__ import annotations

import random

import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import collectives, cuda, fabric

ONE_GPU = pytest.param(["cuda:0", "cuda:0"], id="one", marks=pytest.mark.cuda)
TWO_GPUS = pytest.param(["cuda:0", "cuda:1"], id="two", marks=pytest.mark.cuda(devices=2))
SIZE = 1 << 20


# The products of delay() take tens of seconds there.
slow_in_sanitizers = pytest.mark.unsanitized("a delay of products would be tens of seconds")


def delay(device: str) -> None:
    """Some milliseconds of work on the current stream of the device."""
    factor = torch.ones(4096, 4096, device=device)
    for _ in range(10):
        factor @ factor


def junk(device: str) -> list[torch.Tensor]:
    """Takes and overwrites what the allocator has free in the size of the tests."""
    return [torch.full((SIZE,), -7.0, device=device) for _ in range(4)]


@slow_in_sanitizers
@pytest.mark.parametrize("devices", [ONE_GPU, TWO_GPUS])
@pytest.mark.parametrize("algorithm", ["auto", "two_shot", "packets"])
def test_a_group_call_and_a_late_peer(devices: list[str], algorithm: str) -> None:
    communicator = collectives.Communicator(fabric.mesh(devices), algorithm=algorithm)
    for turn in range(3):
        inputs = [torch.full((SIZE,), 1.0 + rank, device=d) for rank, d in enumerate(devices)]
        outputs = [torch.empty_like(t) for t in inputs]
        delay(devices[1])
        communicator.all_reduce(inputs, out=outputs)
        if turn % 2:
            inputs[0].fill_(-5)
        del inputs
        kept = junk(devices[0])
        assert all((t == 3).all().item() for t in outputs)
        assert all((t == -7).all().item() for t in kept)


@slow_in_sanitizers
@pytest.mark.parametrize("devices", [ONE_GPU, TWO_GPUS])
def test_a_rank_drops_its_tensor_before_it_waits(devices: list[str]) -> None:
    communicator = collectives.Communicator(fabric.mesh(devices))
    for _ in range(3):
        first, second = (torch.full((SIZE,), 1.0 + r, device=d) for r, d in enumerate(devices))
        delay(devices[1])
        communicator.arrive(0, first)
        del first
        communicator.arrive(1, second)
        kept = junk(devices[0])
        communicator.wait(0)
        communicator.wait(1)
        assert (second == 3).all().item()
        assert all((t == -7).all().item() for t in kept)


@pytest.mark.cuda(devices=2)
@pytest.mark.parametrize("late", ["cuda:0", "cuda:1"])
def test_a_copy_between_devices(late: str) -> None:
    for _ in range(3):
        source = torch.full((SIZE,), 4.0, device="cuda:0")
        target = torch.zeros(SIZE, device="cuda:1")
        before = target + 1
        delay(late)
        target.copy_(source)
        source.fill_(-1)
        del source
        kept = junk("cuda:0")
        assert (target == 4).all().item() and (before == 1).all().item()
        assert all((t == -7).all().item() for t in kept)


@pytest.mark.cuda(devices=2)
def test_symmetric_memory_goes_when_its_readers_are_done() -> None:
    mesh = fabric.mesh(["cuda:0", "cuda:1"])
    fabric.enable(peer_access=False)
    try:
        there = fabric.symmetric_zeros(mesh, [SIZE], torch.float32)[1]
        there += 2
        delay("cuda:0")
        found = torch.ones(SIZE, device="cuda:0") + there
        del there  # unmapped: waits for both
        assert (found == 3).all().item()
    finally:
        fabric.disable()


@pytest.mark.cuda(devices=2)
def test_backward_on_streams_of_ones_own() -> None:
    """Gradients that cross devices are ordered with the streams of the forward pass."""
    fabric.enable()
    try:
        streams = [cuda.Stream(device="cuda:0"), cuda.Stream(device="cuda:1")]
        a = torch.randn(SIZE, device="cuda:0").requires_grad_()
        b = torch.randn(SIZE, device="cuda:1").requires_grad_()
        for _ in range(3):
            a.grad = b.grad = None
            for stream, device in zip(streams, ("cuda:0", "cuda:1"), strict=True):
                stream.wait_stream(cuda.current_stream(device))
            with cuda.stream(streams[0]), cuda.stream(streams[1]):
                delay("cuda:0")
                ((a * b).tanh() * b).sum().backward()
                for stream in streams:
                    stream.synchronize()
            x, y = a.detach().cpu().requires_grad_(), b.detach().cpu().requires_grad_()
            ((x * y).tanh() * y).sum().backward()
            assert torch.allclose(a.grad.cpu(), x.grad, atol=1e-5)
            assert torch.allclose(b.grad.cpu(), y.grad, atol=1e-5)
    finally:
        fabric.disable()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("devices", [["cpu:0", "cpu:1"], TWO_GPUS])
def test_a_random_program_over_two_devices(devices: list[str], seed: int) -> None:
    """Operators, copies and collectives over both, tensors dropped and overwritten at random.

    The values are integers, so that what each tensor must hold is known exactly.
    """
    vibetensor.set_cpu_devices(4)
    rng = random.Random(seed)
    fabric.enable(peer_access=seed % 2 == 0)
    communicator = collectives.Communicator(fabric.mesh(devices))
    sizes = [1000, 1 << 16, 1 << 20]
    alive: list[tuple[torch.Tensor, float]] = []  # a tensor, and the value of all its elements

    def full(size: int, value: float, device: str) -> torch.Tensor:
        return torch.full((size,), float(value), device=device)

    try:
        for step in range(300):
            while len(alive) < 6:
                value = float(rng.randrange(-8, 8))
                alive.append((full(rng.choice(sizes), value, rng.choice(devices)), value))
            if step % 25 == 0 and devices[0].startswith("cuda"):
                delay(rng.choice(devices))
            (a, x), (b, y) = rng.sample(alive, 2)
            action = rng.randrange(6)
            if action < 2 and a.shape == b.shape:
                alive.append((a + b, x + y))
            elif action == 2 and a.shape == b.shape:
                alive.append((a * b.sign(), x * ((y > 0) - (y < 0))))
            elif action == 3:
                b.fill_(float(step))
                alive = [(t, float(step)) if t is b else (t, v) for t, v in alive]
            elif action == 4:
                alive.append((a.to(rng.choice(devices)).clone(), x))
            else:
                ranks = [full(a.numel(), x + r, device) for r, device in enumerate(devices)]
                communicator.all_reduce(ranks)
                alive.extend((t, 2 * x + 1) for t in ranks)
            alive = [(t, v) for t, v in alive if abs(v) < 1e6]
            while len(alive) > 10:
                alive.pop(rng.randrange(len(alive)))
        for t, value in alive:
            assert (t == value).all().item()
    finally:
        fabric.disable()
