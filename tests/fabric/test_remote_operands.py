"""Elementwise operators over two devices: values, gradients, modes, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import _C, fabric

PAIRS = [
    pytest.param(("cpu:0", "cpu:1"), id="cpu"),
    pytest.param(("cuda:0", "cuda:1"), id="cuda", marks=pytest.mark.cuda(devices=2)),
]


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    vibetensor.set_cpu_devices(4)
    yield
    fabric.disable()


def values(*shape: int, device: str = "cpu:0", seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(*shape, device="cpu:0").to(device)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a.cpu() == b.cpu()).all().item())


def test_off_it_is_an_error_that_says_how() -> None:
    assert not fabric.is_enabled()
    with pytest.raises(RuntimeError, match=r"same device.*cpu:0.*cpu:1.*fabric\.enable\(\)"):
        torch.ones(3, device="cpu:0") + torch.ones(3, device="cpu:1")


@pytest.mark.parametrize("pair", PAIRS)
def test_the_result_is_on_the_first_operands_device(pair: tuple[str, str]) -> None:
    fabric.enable()
    a, b = values(5, 3, device=pair[0]), values(3, device=pair[1], seed=1)
    for first, second in ((a, b), (b, a)):
        out = first * second
        assert out.device == first.device
        assert same(out, first.cpu() * second.cpu())


@pytest.mark.parametrize("pair", PAIRS)
def test_every_operator_with_two_tensors(pair: tuple[str, str]) -> None:
    """All pointwise operators of the table share the door: one of each kind of call."""
    fabric.enable("strict")
    a, b, c = (values(4, 6, device=d, seed=i) for i, d in enumerate((*pair, pair[1])))
    la, lb, lc = a, b.to(pair[0]), c.to(pair[0])
    assert same(torch.add(a, b, alpha=0.5), torch.add(la, lb, alpha=0.5))
    assert same(a - b, la - lb)
    assert same(a / b, la / lb)
    assert same(torch.maximum(a, b), torch.maximum(la, lb))
    assert same(torch.where(a > 0, b, c), torch.where(la > 0, lb, lc))
    assert same(torch.addcmul(a, b, c), torch.addcmul(la, lb, lc))
    assert same(torch.lerp(a, b, 0.3), torch.lerp(la, lb, 0.3))
    assert same(a > b, la > lb)
    assert same(a + b.to(torch.float16), la + lb.to(torch.float16))
    assert same(a.t() + b.t(), la.t() + lb.t())
    assert same(a[::2] + b[1], la[::2] + lb[1])
    place = a.clone()
    place += b
    assert place.device == a.device and same(place, la + lb)
    empty = values(0, 6, device=pair[0]) + values(0, 6, device=pair[1])
    assert empty.shape == (0, 6)


@pytest.mark.parametrize("pair", PAIRS)
def test_gradients_go_home(pair: tuple[str, str]) -> None:
    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return ((a * b + b).tanh() / (1 + a * a)).sum()

    fabric.enable()
    here, there = values(16, 8, device=pair[0]), values(8, device=pair[1], seed=1)
    here.requires_grad_()
    there.requires_grad_()
    found = loss(here, there)
    found.backward()
    one, two = here.detach().cpu().requires_grad_(), there.detach().cpu().requires_grad_()
    wanted = loss(one, two)
    wanted.backward()
    assert here.grad is not None and there.grad is not None
    assert here.grad.device == here.device and there.grad.device == there.device
    assert torch.allclose(found.cpu(), wanted)
    assert torch.allclose(here.grad.cpu(), one.grad, atol=1e-6)
    assert torch.allclose(there.grad.cpu(), two.grad, atol=1e-5)


@pytest.mark.parametrize("pair", PAIRS)
def test_second_derivatives(pair: tuple[str, str]) -> None:
    fabric.enable()
    x = values(5, device=pair[0]).requires_grad_()
    y = values(5, device=pair[1], seed=1).requires_grad_()
    (dx,) = torch.autograd.grad((x * x * y).sum(), [x], create_graph=True)
    (dxy,) = torch.autograd.grad(dx.sum(), [y])
    assert dxy.device == y.device
    assert torch.allclose(dxy.cpu(), 2 * x.detach().cpu())


def test_devices_of_two_kinds_stay_apart() -> None:
    fabric.enable()
    assert fabric.explain(torch.ones(3), "cpu:2").way == "direct"
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(3, 3, device="cpu:0") @ torch.ones(3, 3, device="cpu:1")


@pytest.mark.cuda
def test_the_host_is_no_peer_of_a_gpu() -> None:
    fabric.enable()
    with pytest.raises(RuntimeError, match=r"same device.*devices of one kind"):
        torch.ones(3, device="cuda:0") + torch.ones(3)


def test_a_dry_run_moves_nothing() -> None:
    pairs = fabric.enable("dry_run")
    assert fabric.mode() == "dry_run" and not fabric.is_enabled()
    assert ("cpu:0", "cpu:3", True) in [(p.from_device, p.to_device, p.direct) for p in pairs]
    fabric.reset_stats()
    with pytest.raises(_C.FabricError, match=r"dry run: cpu:0 would read .*\(12 bytes\) in place"):
        torch.ones(3, device="cpu:0") + torch.ones(3, device="cpu:1")
    assert fabric.stats()["events"]["noted"] == 0


def test_an_unknown_mode() -> None:
    with pytest.raises(ValueError, match="expected strict, best_effort or dry_run"):
        fabric.enable("fast")


def test_disabled_again() -> None:
    fabric.enable()
    assert fabric.is_enabled()
    fabric.disable()
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(3, device="cpu:0") + torch.ones(3, device="cpu:1")


@pytest.mark.cuda(devices=2)
def test_without_peer_access_operands_are_copied(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="vibetensor.fabric"):
        fabric.enable(peer_access=False)
    assert len(caplog.records) == 1 and "peer access was not asked for" in caplog.text
    a, b = values(64, device="cuda:0"), values(64, device="cuda:1", seed=1)
    assert fabric.explain(b, "cuda:0").way == "copy"
    fabric.reset_stats()
    assert same(a + b, a.cpu() + b.cpu())
    assert fabric.stats()["copy"]["device_to_device"] == {"calls": 1, "bytes": 256}
    assert fabric.stats()["peer_read"] == {}


@pytest.mark.cuda(devices=2)
def test_a_slow_reader_sees_what_was_there() -> None:
    """The owner overwrites, drops and reuses its memory while the reader has not begun."""
    fabric.enable()
    size = 1 << 20
    here = torch.zeros(size, device="cuda:0")
    for turn in range(4):
        there = torch.full((size,), float(turn), device="cuda:1")
        for _ in range(20):  # keeps the reader busy
            torch.ones(2048, 2048, device="cuda:0") @ torch.ones(2048, 2048, device="cuda:0")
        found = here + there
        if turn % 2:
            there.fill_(-1.0)
        del there
        again = torch.full((size,), -2.0, device="cuda:1")
        assert (found == turn).all().item()
        assert (again == -2).all().item()


@pytest.mark.cuda(devices=2)
def test_the_owners_memory_was_taken_on_another_stream() -> None:
    from vibetensor import cuda

    fabric.enable()
    size = 1 << 20
    side = cuda.Stream(device="cuda:1")
    with cuda.stream(side):
        there = torch.full((size,), 3.0, device="cuda:1")
    cuda.current_stream("cuda:1").wait_stream(side)
    for _ in range(20):
        torch.ones(2048, 2048, device="cuda:0") @ torch.ones(2048, 2048, device="cuda:0")
    found = torch.zeros(size, device="cuda:0") + there
    del there
    with cuda.stream(side):  # would get the block at once if nobody held it
        again = torch.full((size,), -2.0, device="cuda:1")
    assert (found == 3).all().item() and (again == -2).all().item()


@pytest.mark.cuda(devices=2)
def test_in_a_graph_of_both_devices() -> None:
    fabric.enable()
    a, b = values(1 << 16, device="cuda:0"), values(1 << 16, device="cuda:1", seed=1)
    graph = torch.cuda.CUDAGraph(["cuda:0", "cuda:1"])
    with torch.cuda.graph(graph):
        there = a * b
        back = b + there
    for turn in range(4):
        a.fill_(turn)
        b += 1
        graph.replay()
        assert same(there, turn * b.to("cuda:0"))
        assert same(back, b + there.to("cuda:1"))


@pytest.mark.cuda(devices=2)
def test_a_graph_of_one_device_refuses_operands_of_the_other() -> None:
    fabric.enable()
    a, b = values(64, device="cuda:0"), values(64, device="cuda:1", seed=1)
    graph = torch.cuda.CUDAGraph()
    with (
        pytest.raises(_C.FabricError, match="not captured in one graph"),
        torch.cuda.device("cuda:0"),
        torch.cuda.graph(graph),
    ):
        a + b
    assert same(a + b, a + b.to("cuda:0"))
