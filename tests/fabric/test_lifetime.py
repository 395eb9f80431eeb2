"""Memory that a peer still reads is neither overwritten nor handed out again before it was read."""

from __future__ import annotations

import pytest

import vibetensor.torch as torch
from vibetensor import collectives, cuda, fabric

ONE_GPU = pytest.param(["cuda:0", "cuda:0"], id="one", marks=pytest.mark.cuda)
TWO_GPUS = pytest.param(["cuda:0", "cuda:1"], id="two", marks=pytest.mark.cuda(devices=2))
SIZE = 1 << 20


def delay(device: str) -> None:
    """Some milliseconds of work on the current stream of the device."""
    factor = torch.ones(4096, 4096, device=device)
    for _ in range(10):
        factor @ factor


def junk(device: str) -> list[torch.Tensor]:
    """Takes and overwrites what the allocator has free in the size of the tests."""
    return [torch.full((SIZE,), -7.0, device=device) for _ in range(4)]


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
