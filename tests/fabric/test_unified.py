"""Unified memory: the cap, advice, and training with a table and moments that lie on the host."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import _C, fabric

DEVICES = ["cpu:0", pytest.param("cuda:0", marks=pytest.mark.cuda)]
MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_limit() -> Iterator[None]:
    gc.collect()  # tensors of other tests in cycles would count as held
    yield
    fabric.unified_limit(None)


@pytest.mark.parametrize("device", DEVICES)
def test_it_is_a_tensor_like_any_other(device: str) -> None:
    before = fabric.unified_use(device).held
    t = fabric.unified_zeros([64, 32], torch.float32, device)
    assert fabric.is_unified(t) and fabric.is_unified(t[3]) and t.shape == (64, 32)
    assert not fabric.is_unified(t + 1) and str(t.device) == device
    assert fabric.unified_use(device).held == before + 64 * 32 * 4
    t += 2
    assert t.sum().item() == 2 * 64 * 32
    t[5:7] = -1
    assert t.cpu()[6].sum().item() == -32
    del t
    assert fabric.unified_use(device).held == before


@pytest.mark.parametrize("device", DEVICES)
def test_the_cap_is_hard(device: str) -> None:
    use = fabric.unified_use(device)
    assert 0 < use.cap <= use.free // 4
    with pytest.raises(_C.OutOfMemoryError, match=r"asked for .* held are .* cap is .* free are"):
        fabric.unified_empty(use.free // 2, torch.uint8, device)
    fabric.unified_limit(MIB)
    held = fabric.unified_use(device).held
    half = fabric.unified_empty(MIB // 2, torch.uint8, device)
    with pytest.raises(_C.OutOfMemoryError, match=f"the cap is {MIB}"):
        fabric.unified_empty(MIB, torch.uint8, device)
    assert fabric.unified_use(device).held == held + half.numel()


@pytest.mark.parametrize("device", DEVICES)
def test_what_was_asked_for_is_told(device: str) -> None:
    t = fabric.unified_zeros([4 * MIB // 4], torch.float32, device)
    nothing = fabric.residency(t)
    assert nothing.preferred is None and not nothing.read_mostly and nothing.accessed_by == ()
    half = t.numel() // 2
    fabric.advise(t[:half], preferred="cpu", accessed_by=device, read_mostly=True)
    fabric.prefetch(t[:half], "cpu")
    told = fabric.residency(t[:half])
    assert told.preferred == "cpu" and told.prefetched == "cpu" and told.read_mostly
    assert told.accessed_by == ("cpu" if device == "cpu:0" else device,)
    fabric.advise(t[:half], preferred="none", read_mostly=False)
    told = fabric.residency(t[:half])
    assert told.preferred is None and not told.read_mostly
    assert t.sum().item() == 0


@pytest.mark.cuda
def test_parts_of_a_tensor_differ() -> None:
    t = fabric.unified_zeros([4 * MIB // 4], torch.float32, "cuda:0")
    half = t.numel() // 2
    fabric.prefetch(t[:half], "cpu")
    fabric.prefetch(t[half:], "cuda:0")
    assert fabric.residency(t[:half]).prefetched == "cpu"
    assert fabric.residency(t[half:]).prefetched == "cuda:0"
    assert fabric.residency(t).prefetched is None


def test_other_tensors_are_refused() -> None:
    ordinary = torch.ones(3)
    for call in (
        lambda: fabric.advise(ordinary, preferred="cpu"),
        lambda: fabric.prefetch(ordinary, "cpu"),
        lambda: fabric.residency(ordinary),
    ):
        with pytest.raises(ValueError, match="is no unified memory; make it with"):
            call()


@pytest.mark.parametrize("device", DEVICES)
def test_uses_are_counted(device: str) -> None:
    fabric.reset_stats()
    t = fabric.unified_empty([256], torch.float32, device)
    fabric.prefetch(t, "cpu")
    del t
    counted = fabric.stats()["managed"]
    assert counted["take"] == {"calls": 1, "bytes": 1024} == counted["give_back"]
    assert counted["prefetch_to_host"]["bytes"] == 1024


def train(device: str, spill: bool) -> torch.Tensor:
    """Some steps of Adam by hand on a table of 1 MiB; its moments and half of it spill if asked."""
    rows, width = 4096, 64
    torch.manual_seed(0)
    start = torch.randn(rows, width)
    if spill:
        table, first, second = (
            fabric.unified_zeros([rows, width], torch.float32, device) for _ in range(3)
        )
        table.copy_(start)
    else:
        table = start.to(device)
        first, second = torch.zeros_like(table), torch.zeros_like(table)
    table.requires_grad_()
    for step in range(1, 6):
        if spill:
            for t in (table.detach(), first, second):
                fabric.prefetch(t[: rows // 2], "cpu")
                fabric.prefetch(t[rows // 2 :], device)
        torch.manual_seed(step)
        index = torch.randint(0, rows, (512,)).to(device)
        loss = torch.nn.functional.embedding(index, table).square().mean()
        table.grad = None
        loss.backward()
        with torch.no_grad():
            grad = table.grad
            first.lerp_(grad, 0.1)
            second.mul_(0.999).addcmul_(grad, grad, value=0.001)
            root = (second / (1 - 0.999**step)).sqrt() + 1e-8
            table.sub_(0.01 * first / (1 - 0.9**step) / root)
    return table.detach()


@pytest.mark.parametrize("device", DEVICES)
def test_training_with_a_table_that_spills(device: str) -> None:
    spilled, ordinary = train(device, spill=True), train(device, spill=False)
    assert fabric.is_unified(spilled)
    assert (spilled == ordinary).all().item()


@pytest.mark.parametrize("device", DEVICES)
def test_a_module_and_its_optimizer_spill(device: str) -> None:
    """nn.Embedding under optim.Adam, with table and moments in unified memory: the same bits."""

    def run(spill: bool) -> torch.Tensor:
        torch.manual_seed(0)
        layer = torch.nn.Embedding(2048, 64).to(device)
        if spill:
            table = fabric.unified_empty([2048, 64], torch.float32, device)
            table.copy_(layer.weight.detach())
            layer.weight = torch.nn.Parameter(table)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
        for step in range(4):
            torch.manual_seed(step)
            index = torch.randint(0, 2048, (256,)).to(device)
            layer(index).square().mean().backward()
            optimizer.step()
            if spill:  # the parameter is a piece of the optimizer's flat memory by now
                state = optimizer.state[layer.weight]
                for t in (layer.weight.detach(), state["exp_avg"], state["exp_avg_sq"]):
                    assert fabric.is_unified(t)
                    fabric.prefetch(t[:1024], "cpu")
                assert not fabric.is_unified(layer.weight.grad)
            optimizer.zero_grad()
        return layer.weight.detach()

    assert (run(True) == run(False)).all().item()


@pytest.mark.cuda(devices=2)
def test_a_peer_reads_unified_memory() -> None:
    fabric.enable(peer_access=False)
    try:
        t = fabric.unified_zeros([1024], torch.float32, "cuda:1")
        t += 3
        assert fabric.explain(t, "cuda:0").way == "direct"
        assert (torch.ones(1024, device="cuda:0") + t == 4).all().item()
    finally:
        fabric.disable()
    vibetensor.set_cpu_devices(1)
