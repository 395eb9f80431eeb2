"""The reducer: buckets, timing, unused parameters, and passes that fail."""

from __future__ import annotations

import itertools
import random
import threading
import time

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import _C, fabric, nn
from vibetensor.parallel import DataParallel


def cpu_mesh(ranks: int) -> fabric.Mesh:
    return fabric.mesh([f"cpu:{rank}" for rank in range(ranks)])


class Deep(nn.Module):
    """A chain of layers, each a bucket of its own, that may wait in backward."""

    def __init__(self, layers: int = 6) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.ModuleList([nn.Linear(16, 16) for _ in range(layers)])

    def forward(self, x: torch.Tensor, pause: random.Random | None = None) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
            if pause is not None:
                x.register_hook(lambda grad: time.sleep(pause.uniform(0, 0.003)))
        return x.square().mean()


def one_layer_each(module: nn.Module, ranks: int) -> DataParallel:
    return DataParallel(module, cpu_mesh(ranks), bucket_bytes=64, first_bucket_bytes=64)


def inputs(ranks: int) -> list[torch.Tensor]:
    numbers = np.random.default_rng(5)
    return [
        torch.from_numpy(numbers.standard_normal((8, 16)).astype(np.float32)).to(f"cpu:{rank}")
        for rank in range(ranks)
    ]


def gradients(model: DataParallel, rank: int) -> list[np.ndarray]:
    return [p.grad.numpy().copy() for p in model.replicas[rank].parameters()]


def test_buckets_go_from_last_to_first_and_cover_everything() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(100, 100) for _ in range(10)))
    model = DataParallel(net, cpu_mesh(2), bucket_bytes=100_000, first_bucket_bytes=1)
    names = [name for bucket in model.buckets for name in bucket]
    assert names == [name for name, _ in net.named_parameters()][::-1]
    assert model.buckets[0] == ["9.bias"]
    ranges = sorted((begin, end) for _, begin, end, _ in model._reducer.buckets)
    assert ranges[0][0] == 0 and ranges[-1][1] == model.arenas[0][0].numel
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))


def test_every_bucket_is_under_way_before_backward_ends() -> None:
    model = one_layer_each(Deep(), 3)
    for dtype in (None, torch.float64):
        if dtype is not None:  # laid out anew, as for another precision
            model.lay_out([list(range(12))], dtype)
        data = [x if dtype is None else x.to(dtype) for x in inputs(3)]
        model.backward([replica(x) for replica, x in zip(model.replicas, data, strict=True)])
        assert model.early_buckets == len(model.buckets) == 12


def test_gradients_live_in_the_flat_gradient() -> None:
    model = one_layer_each(Deep(), 2)
    model.backward([replica(x) for replica, x in zip(model.replicas, inputs(2), strict=True)])
    for rank, (arena,) in enumerate(model.arenas):
        start, end = arena.grad.data_ptr(), arena.grad.data_ptr() + 4 * arena.numel
        assert all(start <= p.grad.data_ptr() < end for p in model.replicas[rank].parameters())
        places = [p.grad.data_ptr() - start for p in model.replicas[rank].parameters()]
        assert all(place % 256 == 0 for place in places)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_timing_does_not_change_a_bit(ranks: int) -> None:
    model = one_layer_each(Deep(), ranks)
    data = inputs(ranks)

    def run(seed: int | None) -> list[np.ndarray]:
        model.zero_grad()
        pauses = [None if seed is None else random.Random(seed + r) for r in range(ranks)]
        model.backward(
            [f(x, p) for f, x, p in zip(model.replicas, data, pauses, strict=True)],
            [0.5 + rank for rank in range(ranks)],
        )
        found = [gradients(model, rank) for rank in range(ranks)]
        for other in found[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))
        return found[0]

    expected = run(None)
    for seed in range(8):
        assert all(np.array_equal(a, b) for a, b in zip(expected, run(seed), strict=True))

    # And it is the weighted sum of what each rank finds alone.
    total: list[np.ndarray] = [np.zeros_like(grad) for grad in expected]
    for rank in range(ranks):
        net = Deep()
        (net(data[rank].to("cpu:0")) * (0.5 + rank)).backward()
        for sum_, p in zip(total, net.parameters(), strict=True):
            sum_ += p.grad.numpy()
    for a, b in zip(expected, total, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)


def test_backward_passes_overlap_without_the_gil() -> None:
    # Each pass sleeps in a hook that gives the GIL up; run in turn they would take four times that.
    model = one_layer_each(Deep(1), 4)
    losses = []
    for replica, x in zip(model.replicas, inputs(4), strict=True):
        y = replica.layers[0](x)
        y.register_hook(lambda grad: time.sleep(0.2))
        losses.append(y.square().mean())
    spinning = threading.Event()

    def spin() -> None:
        while not spinning.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    start = time.monotonic()
    try:
        model.backward(losses)
    finally:
        spinning.set()
        thread.join()
    assert time.monotonic() - start < 0.6


class Choosy(nn.Module):
    """Uses `left` or `right`, never `spare`."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.spare = nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, right: bool) -> torch.Tensor:
        return (self.right if right else self.left)(x).square().mean()


def test_unused_parameters_count_as_zero() -> None:
    torch.manual_seed(2)
    net = Choosy()
    model = one_layer_each(net, 2)
    x = [torch.ones(3, 4, device=f"cpu:{rank}") for rank in range(2)]
    for _ in range(2):  # the second time over what the first left in memory
        for (arena,) in model.arenas:
            for place in arena.pieces(arena.grad):
                place.fill_(float("nan"))
        model.zero_grad()
        model.backward([model.replicas[0](x[0], False), model.replicas[1](x[1], True)])
        alone = Choosy()
        alone.load_state_dict(net.state_dict())
        (alone(x[0], False) * 0.5).backward()
        (alone(x[0], True) * 0.5).backward()
        for replica in model.replicas:
            for name in ("left", "right"):
                mine, other = getattr(replica, name), getattr(alone, name)
                assert np.array_equal(mine.weight.grad.numpy(), other.weight.grad.numpy())
            assert replica.spare.weight.grad is None and replica.spare.bias.grad is None
        # Nothing of an earlier step is left for a norm over the flat gradient.
        assert np.isfinite(float(_C.ops.sum_of_squares(model.arenas[0][0].grad).item()))


def test_a_pass_that_fails_on_one_rank_leaves_no_trace() -> None:
    model = one_layer_each(Deep(), 3)
    data = inputs(3)

    def losses(broken: bool) -> list[torch.Tensor]:
        out = []
        for rank, (replica, x) in enumerate(zip(model.replicas, data, strict=True)):
            y = torch.tanh(replica.layers[0](x))

            def fail(grad: torch.Tensor) -> None:
                raise KeyError("from a hook")

            if broken and rank == 1:
                y.register_hook(fail)
            for layer in replica.layers[1:]:
                y = layer(y)
            out.append(y.square().mean())
        return out

    model.backward(losses(False))
    expected = gradients(model, 2)
    model.zero_grad()
    with pytest.raises(KeyError, match="from a hook"):
        model.backward(losses(True))
    model.zero_grad()
    model.backward(losses(False))
    assert all(np.array_equal(a, b) for a, b in zip(expected, gradients(model, 2), strict=True))


def test_replicas_with_different_parameters() -> None:
    with pytest.raises(
        ValueError,
        match=r"parameter 2 is '1.weight' \[3, 2\] \S+ on rank 0 and '1.weight' \[2, 2\] \S+ on "
        r"rank 1",
    ):
        DataParallel([nn.Sequential(nn.Linear(2, 2), nn.Linear(2, n)) for n in (3, 2)], cpu_mesh(2))
    with pytest.raises(ValueError, match="rank 0 has 2 parameters, rank 1 has 1"):
        DataParallel([nn.Linear(2, 2), nn.Linear(2, 2, bias=False)], cpu_mesh(2))
    with pytest.raises(ValueError, match="got 1 models for 2 ranks"):
        DataParallel([nn.Linear(2, 2)], cpu_mesh(2))


def test_models_made_for_each_rank_take_the_values_of_the_first() -> None:
    nets = [nn.Linear(3, 2), nn.Linear(3, 2)]
    model = DataParallel(nets, cpu_mesh(2))
    assert np.array_equal(
        model.replicas[0].weight.detach().numpy(), model.replicas[1].weight.detach().numpy()
    )


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (lambda m, x: [m.replicas[0](x[0])], "has 2 ranks, got 1 losses"),
        (lambda m, x: [m.replicas[0](x[0])] * 2, "the loss of rank 1 is .* expected it on cpu:1"),
        (lambda m, x: [m.replicas[r](x[r]).detach() for r in range(2)], "does not require grad"),
        (lambda m, x: [m.replicas[r].layers[0](x[r]) for r in range(2)], "expected one element"),
    ],
    ids=["too few", "device", "no grad", "shape"],
)
def test_losses_that_cannot_be(losses: object, message: str) -> None:
    model = one_layer_each(Deep(), 2)
    with pytest.raises((ValueError, RuntimeError), match=message):
        model.backward(losses(model, inputs(2)))  # type: ignore[operator]
