"""CUDAGraph: replays, random numbers, what is refused, and what a failed capture leaves."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import _C, StaleGraphError, nn

pytestmark = pytest.mark.cuda

GPU = _C.device("cuda:0")


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return np.array(tensor.detach().double().cpu())


def test_a_replay_computes_from_what_the_inputs_hold_then() -> None:
    x = torch.zeros(1000, device="cuda")
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        y = (x * 2 + 1).exp().sum()
    for value in (0.0, 0.5, -1.0):
        x.fill_(value)
        g.replay()
        assert numbers(y) == numbers((x * 2 + 1).exp().sum())
    assert g.node_count >= 2


def test_a_capture_runs_nothing() -> None:
    x = torch.ones(4, device="cuda")
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        assert torch.cuda.is_current_stream_capturing()
        x.add_(1)
    assert not torch.cuda.is_current_stream_capturing()
    assert numbers(x).tolist() == [1, 1, 1, 1]
    g.replay()
    g.replay()
    assert numbers(x).tolist() == [3, 3, 3, 3]


def test_calls_of_libraries_have_workspaces_of_their_own() -> None:
    """Counters of products and attention are cleared once, in front of the graph."""
    torch.manual_seed(0)
    x, w, q = (
        (torch.randn(*sizes, device="cuda") * scale).to(torch.bfloat16)
        for sizes, scale in (((8192, 768), 1.0), ((768, 768), 0.03), ((4, 8, 512, 64), 1.0))
    )

    def work(times: int) -> list[torch.Tensor]:
        y, z = x, q
        for _ in range(times):
            y = nn.functional.linear(y, w)
            z = nn.functional.scaled_dot_product_attention(z, q, q, is_causal=True)
        return [y, z, y.t() @ x]

    expected = {times: [numbers(t) for t in work(times)] for times in (3, 12)}
    graphs = {times: torch.cuda.CUDAGraph() for times in expected}
    results = {}
    for times, graph in graphs.items():
        with torch.cuda.graph(graph):
            results[times] = work(times)
    for _ in range(3):
        for times, graph in graphs.items():
            for tensor in results[times]:
                tensor.zero_()
            graph.replay()
            work(2)
            for found, wanted in zip(results[times], expected[times], strict=True):
                assert (numbers(found) == wanted).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_random_numbers_of_replays_are_those_of_eager_calls(dtype: torch.dtype) -> None:
    def draw() -> list[torch.Tensor]:
        x = torch.rand(1001, device="cuda", dtype=dtype)
        y = torch.randn(77, device="cuda", dtype=dtype)
        return [x, y, nn.functional.dropout(x, 0.3), torch.randint(0, 1000, (33,), device="cuda")]

    torch.manual_seed(5)
    eager = [[numbers(t) for t in draw()] for _ in range(6)]
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        outputs = draw()
    torch.manual_seed(5)
    for i in range(6):
        if i % 2:  # replays and eager calls may alternate
            found = [numbers(t) for t in draw()]
        else:
            g.replay()
            found = [numbers(t) for t in outputs]
        for a, b in zip(eager[i], found, strict=True):
            assert np.array_equal(a, b)


def test_what_would_wait_for_the_gpu_is_refused_by_name_and_the_process_goes_on() -> None:
    x = torch.arange(10, device="cuda", dtype=torch.float32)
    event = torch.cuda.Event()
    cases = {
        "item": lambda: x.sum().item(),
        "item:bool": lambda: bool(x.sum() > 0),
        "copy to the host": lambda: x.cpu(),
        "copy to the host:list": lambda: x.tolist(),
        "copy from the host": lambda: torch.ones(3).cuda(),
        "nonzero": lambda: x.nonzero(),
        "nonzero:mask": lambda: x[x > 3],
        "one_hot": lambda: nn.functional.one_hot(x.long()),
        "manual_seed": lambda: torch.manual_seed(1),
        "cuda.manual_seed": lambda: torch.cuda.manual_seed(1),
        "cuda.set_rng_state": lambda: torch.cuda.set_rng_state(torch.cuda.get_rng_state()),
        "synchronize": lambda: torch.cuda.synchronize(),
        "stream.synchronize": lambda: torch.cuda.current_stream().synchronize(),
        "stream.query": lambda: torch.cuda.current_stream().query(),
        "event.synchronize": lambda: (event.record(), event.synchronize()),
    }
    before = _C.get_rng_state(GPU)
    for name, refused in cases.items():
        g = torch.cuda.CUDAGraph()
        expected = pytest.raises(RuntimeError, match=name.split(":")[0] + ": cannot be captured")
        with expected, torch.cuda.graph(g):
            y = x * 2 + torch.rand(10, device="cuda")
            refused()
        del y
        assert not torch.cuda.is_current_stream_capturing()
        assert numbers(x + 1)[3] == 4, name  # the stream can be used
        with torch.cuda.graph(g):  # and so can the graph
            z = x * 3
        g.replay()
        assert numbers(z)[2] == 6
    assert np.array_equal(np.array(before), np.array(_C.get_rng_state(GPU)))


def test_memory_of_a_graph_is_its_own_and_goes_back() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    x = torch.ones(1 << 20, device="cuda")
    before = torch.cuda.memory_reserved()
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        y = (x + 1) * (x + 2)
    stats = _C.memory_stats(_C.device("cuda:0"))
    for _ in range(5):
        g.replay()
        others = [torch.full((1 << 20,), 7.0, device="cuda") for _ in range(4)]
        assert numbers(y)[5] == 6
    del others
    now = _C.memory_stats(_C.device("cuda:0"))
    assert now["allocated"] == stats["allocated"]
    torch.cuda.empty_cache()
    g.replay()
    assert numbers(y)[5] == 6
    g.reset()
    del y
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() == before
    with pytest.raises(RuntimeError, match="nothing"):
        g.replay()


def test_the_peak_counts_what_a_replay_uses() -> None:
    x = torch.ones(1 << 20, device="cuda")
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        y = ((x + 1) * (x + 2)).sum()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    assert torch.cuda.max_memory_allocated() == held
    g.replay()
    most = torch.cuda.max_memory_allocated() - held  # `y` is counted in what is held
    assert 3 * (4 << 20) - 4096 <= most <= 4 * (4 << 20)
    assert torch.cuda.memory_allocated() == held
    assert numbers(y) == 6 << 20


def test_graphs_may_share_a_pool() -> None:
    x = torch.ones(1 << 20, device="cuda")
    first, second = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(first):
        y = (x * 2).sqrt() * 3
    used = torch.cuda.memory_reserved()
    with torch.cuda.graph(second, pool=first.pool()):
        z = (x * 5).sqrt() * 7
    assert torch.cuda.memory_reserved() - used < (12 << 20)
    first.replay()
    second.replay()
    assert np.array_equal(numbers(y), numbers((x * 2).sqrt() * 3))
    assert np.array_equal(numbers(z), numbers((x * 5).sqrt() * 7))
    handle = torch.cuda.graph_pool_handle()
    third = torch.cuda.CUDAGraph()
    with torch.cuda.graph(third, pool=handle):
        w = x + 1
    del handle, first, second
    third.replay()
    assert numbers(w)[0] == 2


def test_replays_on_several_streams_follow_each_other() -> None:
    x = torch.zeros(1 << 22, device="cuda")
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        for _ in range(4):
            x.add_(torch.rand(1 << 22, device="cuda") * 0 + 1)
    streams = [torch.cuda.Stream() for _ in range(3)]
    for i in range(12):
        with torch.cuda.stream(streams[i % 3]):
            g.replay()
    torch.cuda.synchronize()
    assert float(x.min()) == float(x.max()) == 48


def test_a_graph_can_be_drawn(tmp_path: Path) -> None:
    x = torch.ones(16, device="cuda")
    g = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="nothing was captured"):
        g.debug_dump(tmp_path / "graph.dot")
    with torch.cuda.graph(g):
        y = (x + 1).exp().sum()
    with pytest.raises(RuntimeError, match="enable_debug_mode"):
        g.debug_dump(tmp_path / "graph.dot")
    g.enable_debug_mode()
    with torch.cuda.graph(g):
        y = (x + 1).exp().sum()
    g.replay()
    g.debug_dump(tmp_path / "graph.dot")
    text = (tmp_path / "graph.dot").read_text()
    assert text.startswith("digraph") and text.count("->") >= 1
    assert numbers(y) == pytest.approx(16 * np.exp(2.0), rel=1e-6)
    with pytest.raises(RuntimeError, match="cannot write"):
        g.debug_dump(tmp_path / "no folder" / "graph.dot")


def test_misuse_is_an_error() -> None:
    g = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="default stream"):
        g.capture_begin()
    with pytest.raises(RuntimeError, match="nothing was captured"):
        g.replay()
    other = torch.cuda.CUDAGraph()
    x = torch.ones(4, device="cuda")
    with torch.cuda.graph(g):
        x.add_(1)
        with pytest.raises(RuntimeError, match="already"):
            other.capture_begin()
        with pytest.raises(RuntimeError, match="do not nest"), torch.cuda.graph(other):
            pass
    side = torch.cuda.Stream()
    with pytest.raises(RuntimeError, match="has not waited for"), torch.cuda.graph(g):
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            x.mul_(2)
    with torch.cuda.graph(g):
        x.add_(1)
    g.replay()
    assert numbers(x)[0] == 2


def test_out_of_memory_while_capturing_leaves_nothing_behind() -> None:
    total = torch.cuda.get_device_properties().total_memory
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    g = torch.cuda.CUDAGraph()
    with pytest.raises(torch.OutOfMemoryError), torch.cuda.graph(g):
        held = [torch.empty(total // 8, dtype=torch.uint8, device="cuda") for _ in range(9)]
    held = []
    gc.collect()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() == before
    assert not held
    assert float(torch.ones(8, device="cuda").sum()) == 8


def test_an_optimizer_in_a_graph_counts_at_each_replay_and_follows_the_rate() -> None:
    def run(captured: bool) -> list[float]:
        torch.manual_seed(0)
        p = nn.Parameter(torch.ones(100, device="cuda"))
        optimizer = torch.optim.AdamW([p], lr=0.1)
        x = torch.rand(100, device="cuda")

        def step() -> None:
            optimizer.zero_grad()
            (p * x).sum().backward()
            optimizer.step()

        step()
        g = torch.cuda.CUDAGraph()
        if captured:
            with torch.cuda.graph(g):
                step()
            assert optimizer.state_dict()["state"][0]["step"] == 1
        found = []
        for i in range(5):
            optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)
            g.replay() if captured else step()
            found += numbers(p).tolist()
        assert optimizer.state_dict()["state"][0]["step"] == 6
        if captured:
            optimizer.load_state_dict(optimizer.state_dict())
            with pytest.raises(StaleGraphError, match="load_state_dict"):
                g.replay()
        return found

    assert run(True) == run(False)
