"""`torch.cuda`: what it says without a GPU, and streams, events and memory on one."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

import vibetensor.torch as torch
from vibetensor import _C, cuda

MIB = 1 << 20


@pytest.mark.skipif(cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_questions_have_answers_and_requests_have_reasons() -> None:
    assert cuda.device_count() == 0 and not cuda.is_initialized()
    for held in (cuda.memory_allocated, cuda.max_memory_allocated, cuda.memory_reserved):
        assert held() == 0
    assert cuda.memory_stats() == cuda.memory_stats_as_nested_dict() == {}
    assert cuda.get_rng_state_all() == [] and not cuda.is_bf16_supported()
    cuda.seed_all()
    cuda.empty_cache()
    assert cuda.memory_snapshot() == []
    for request in (
        cuda.init,
        cuda.Stream,
        cuda.get_rng_state,
        cuda.utilization,
        cuda.mem_get_info,
    ):
        with pytest.raises(RuntimeError, match="cuda"):
            request()


def test_what_is_elsewhere_is_named() -> None:
    with pytest.raises(AttributeError, match=r"'amp'; instead there is torch\.amp"):
        cuda.amp  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'sparse'$"):
        cuda.sparse  # noqa: B018


def test_every_name_that_is_listed_is_there() -> None:
    for module in (cuda, cuda.random, cuda.health, cuda.profiler):
        assert all(hasattr(module, name) for name in module.__all__)
    assert torch.random.seed() == torch.initial_seed()
    import vibetensor.torch.cuda.random as by_name

    assert by_name is cuda.random


def test_a_fork_leaves_the_numbers_behind_it_alone() -> None:
    torch.manual_seed(3)
    before = torch.rand(4).tolist()
    torch.manual_seed(3)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        torch.rand(5)
    assert torch.rand(4).tolist() == before
    with torch.random.fork_rng(enabled=False):
        torch.rand(4)
    assert torch.rand(4).tolist() != before
    with (
        pytest.raises(ValueError, match="device_type 'cuda', got 'xpu'"),
        torch.random.fork_rng(device_type="xpu"),
    ):
        pass


def test_a_cpu_is_no_gpu() -> None:
    with pytest.raises(ValueError, match="Expected a cuda device"):
        cuda.synchronize("cpu")
    with pytest.raises(RuntimeError, match="CUDA devices"):
        _C.memory_counters(torch.device("cpu"))


def test_nvtx_ranges_count_their_depth() -> None:
    assert cuda.nvtx.range_push("outer") == 0
    with cuda.nvtx.range("step {}", 3):
        assert cuda.nvtx.range_push("inner") == 2
        assert cuda.nvtx.range_pop() == 2
    cuda.nvtx.mark("here")
    cuda.nvtx.range_end(cuda.nvtx.range_start("overlapping"))
    with cuda.profiler.profile():
        pass
    assert cuda.nvtx.range_pop() == 0
    with pytest.raises(RuntimeError, match="no open range"):
        cuda.nvtx.range_pop()


@pytest.mark.cuda
def test_devices_that_do_not_exist_are_named() -> None:
    for use in (cuda.synchronize, cuda.set_device, cuda.memory_stats, cuda.Stream):
        with pytest.raises(RuntimeError, match="cuda:63 does not exist, the machine has cuda:0"):
            use(63)
    with pytest.raises(RuntimeError, match=r"0 to 63|out of range"):
        cuda.get_device_name(64)


@pytest.mark.cuda
def test_stream_context_is_of_one_thread_and_ends() -> None:
    default, side = cuda.current_stream(), cuda.Stream(priority=-1)
    assert default == cuda.default_stream() and side != default
    assert side.priority < 0 and default.priority == 0
    seen: list[Any] = []
    with cuda.stream(side):
        assert cuda.current_stream() == side
        thread = threading.Thread(target=lambda: seen.append(cuda.current_stream()))
        thread.start()
        thread.join()
        with cuda.stream(None):
            assert cuda.current_stream() == side
    assert cuda.current_stream() == default and seen == [default]
    external = cuda.ExternalStream(side.cuda_stream)
    assert external == side and hash(external) == hash(side)


@pytest.mark.cuda
def test_a_stream_is_a_block_and_knows_where_it_is() -> None:
    least, greatest = cuda.Stream.priority_range()
    assert least >= 0 > greatest
    side = cuda.Stream(priority=greatest)
    assert side.priority == greatest and side.device_index == side.device.index == 0
    default = cuda.current_stream()
    with side as entered, side:
        assert entered == side == cuda.current_stream()
    assert cuda.current_stream() == default
    with pytest.raises(RuntimeError, match="has not entered"):
        side.__exit__(None, None, None)
    for use in (cuda.set_stream, cuda.stream):
        with pytest.raises(TypeError, match="expected a Stream or None, got 3"):
            use(3)
    with pytest.raises(TypeError):
        side.wait_stream(None)
    event = cuda.Event()
    assert event.device is None
    event.record(side)
    assert event.device == side.device


def test_a_mode_of_waits_that_is_none_is_an_error() -> None:
    assert cuda.get_sync_debug_mode() == 0
    with pytest.raises(ValueError, match="'default', 'warn' or 'error'"):
        cuda.set_sync_debug_mode("quiet")
    cuda.set_sync_debug_mode("error")
    assert cuda.get_sync_debug_mode() == 2 and torch.ones(3).sum().item() == 3  # of the CPU
    cuda.set_sync_debug_mode(0)


@pytest.mark.cuda
def test_waits_that_nobody_asked_for_are_told() -> None:
    x = torch.ones(4, device="cuda")
    pinned = torch.zeros(4).pin_memory()
    waits = {
        "copy to the host": (x.sum().item, x.cpu, x.tolist, lambda: bool(x.sum() > 0)),
        "nonzero": (x.nonzero, lambda: x[x > 0]),
        "copy from pinned memory": (lambda: x.copy_(pinned),),
    }

    def quiet() -> None:
        x.copy_(pinned, non_blocking=True)
        pinned.copy_(x, non_blocking=True)
        x.add_(1)
        cuda.synchronize()
        cuda.current_stream().synchronize()

    try:
        for text, calls in waits.items():
            for call in calls:
                cuda.set_sync_debug_mode("error")
                with pytest.raises(RuntimeError, match=f"{text}: the host would wait"):
                    call()
                cuda.set_sync_debug_mode("warn")
                with pytest.warns(UserWarning, match=f"{text}: the host waits") as found:
                    call()
                assert found[0].filename == __file__
        cuda.set_sync_debug_mode("error")
        quiet()
    finally:
        cuda.set_sync_debug_mode("default")
    assert x.sum().item() >= 0


@pytest.mark.cuda
def test_random_states_of_a_gpu_go_back_and_forth() -> None:
    cuda.manual_seed(5)
    assert cuda.initial_seed() == 5
    torch.rand(7, device="cuda")
    states = cuda.get_rng_state_all()
    assert len(states) == cuda.device_count() and states[0].dtype == torch.uint8
    first = torch.rand(9, device="cuda").tolist()
    cuda.set_rng_state_all(states)
    assert torch.rand(9, device="cuda").tolist() == first
    cuda.set_rng_state(states[0])
    with torch.random.fork_rng(devices=[0]):
        cuda.seed()
        torch.rand(3, device="cuda")
    assert torch.rand(9, device="cuda").tolist() == first
    with pytest.raises(RuntimeError, match="16 bytes"):
        cuda.set_rng_state(torch.zeros(3, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="cuda:63 does not exist"):
        cuda.get_rng_state("cuda:63")


@pytest.mark.cuda
def test_a_gpu_says_what_it_is_and_how_it_does() -> None:
    import torch as pt

    mine, theirs = cuda.get_device_properties(0), pt.cuda.get_device_properties(0)
    for name in dir(theirs):
        if name.startswith("_") or name in ("gcnArchName", "uuid"):
            continue
        assert getattr(mine, name) == getattr(theirs, name), name
    assert mine.uuid == str(theirs.uuid)
    assert cuda.get_arch_list() and torch.version.cuda is not None
    assert cuda.is_bf16_supported() and cuda.is_tf32_supported()
    assert cuda.get_allocator_backend() == "native"
    assert 0 < cuda.device_memory_used() <= mine.total_memory * 1.05
    assert cuda.power_draw() > 1000 and 0 < cuda.temperature() < 120 and cuda.clock_rate() > 0
    assert 0 <= cuda.utilization() <= 100 and 0 <= cuda.memory_usage() <= 100
    assert cuda.list_gpu_processes().startswith("GPU:0\n")


@pytest.mark.cuda
@pytest.mark.unsanitized("asserts seconds")
def test_events_order_and_time_streams() -> None:
    side = cuda.Stream()
    start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    x = torch.zeros(1 << 22, device="cuda")
    side.wait_stream(cuda.current_stream())
    with cuda.stream(side):
        start.record()
        for _ in range(20):
            x.add_(1)
        end.record()
    x.record_stream(side)
    cuda.current_stream().wait_event(end)
    assert x.sum().item() == 20 * (1 << 22)
    end.synchronize()
    assert end.query() and 0 < start.elapsed_time(end) < 1000
    with pytest.raises(RuntimeError, match="enable_timing"):
        start.elapsed_time(side.record_event())
    with pytest.raises(RuntimeError, match="recorded first"):
        start.elapsed_time(cuda.Event(enable_timing=True))


@pytest.mark.cuda
def test_streams_of_other_tensors_are_errors() -> None:
    with pytest.raises(RuntimeError, match="the tensor is on cpu:0"):
        torch.zeros(3).record_stream(cuda.current_stream())
    borrowed = torch.from_dlpack(torch.zeros(4, device="cuda"))
    borrowed.record_stream(cuda.Stream())


@pytest.mark.cuda
def test_pinned_copies_do_not_wait() -> None:
    host = torch.ones(1 << 22).pin_memory()
    assert host.is_pinned()
    side = cuda.Stream()
    with cuda.stream(side):
        there = host.to("cuda", non_blocking=True)
        back = there.add(1).to("cpu", non_blocking=True)
    side.synchronize()
    assert there.sum().item() == 1 << 22 and back.shape == host.shape


@pytest.mark.cuda
def test_counters_have_torch_names_and_add_up() -> None:
    cuda.empty_cache()
    cuda.reset_peak_memory_stats()
    before = cuda.memory_stats()
    x = torch.empty(3 * MIB, dtype=torch.uint8, device="cuda")
    after = cuda.memory_stats()
    key = "allocated_bytes.all.current"
    assert after[key] - before[key] == 3 * MIB
    assert after["allocation.all.allocated"] == before["allocation.all.allocated"] + 1
    assert cuda.memory_allocated() == after[key]
    assert cuda.max_memory_allocated() >= after[key]
    assert cuda.memory_reserved() == after["reserved_bytes.all.current"] >= after[key]
    assert cuda.memory_stats_as_nested_dict()["allocated_bytes"]["all"]["current"] == after[key]
    free, total = cuda.mem_get_info()
    assert 0 < free < total
    assert total == pytest.approx(cuda.get_device_properties().total_memory, rel=0.05)
    assert "Allocated memory" in cuda.memory_summary()
    del x
    cuda.reset_accumulated_memory_stats()
    assert cuda.memory_stats()["allocation.all.allocated"] == 0


@pytest.mark.cuda
@pytest.mark.unsanitized("takes all memory of a GPU that others share")
def test_out_of_memory_is_an_error_and_the_process_goes_on() -> None:
    _, total = cuda.mem_get_info()
    with pytest.raises(cuda.OutOfMemoryError, match=r"cannot allocate .* are free, live tensors"):
        torch.empty(2 * total, dtype=torch.uint8, device="cuda")
    with pytest.raises(cuda.OutOfMemoryError):
        hold = []
        while True:
            hold.append(torch.empty(total // 8, dtype=torch.uint8, device="cuda"))
    del hold
    cuda.empty_cache()
    assert torch.ones(10, device="cuda").sum().item() == 10
    assert cuda.memory_stats()["num_ooms"] >= 2


@pytest.mark.cuda
def test_a_fraction_caps_the_process() -> None:
    cuda.empty_cache()
    _, total = cuda.mem_get_info()
    with pytest.raises(ValueError, match="above 0"):
        cuda.set_per_process_memory_fraction(0.0)
    cuda.set_per_process_memory_fraction(0.05)
    try:
        assert cuda.get_per_process_memory_fraction() == 0.05
        with pytest.raises(cuda.OutOfMemoryError, match="set_per_process_memory_fraction"):
            torch.empty(total // 10, dtype=torch.uint8, device="cuda")
    finally:
        cuda.set_per_process_memory_fraction(1.0)
    torch.empty(total // 10, dtype=torch.uint8, device="cuda")


@pytest.mark.cuda
def test_snapshot_has_what_the_viewer_reads(tmp_path: Path) -> None:
    cuda.memory._record_memory_history(max_entries=100)
    try:
        x = torch.empty(5 * MIB, dtype=torch.uint8, device="cuda")
        y = torch.empty(7 * MIB, dtype=torch.uint8, device="cuda")
        del y
        cuda.memory._dump_snapshot(tmp_path / "snapshot.pickle")
    finally:
        cuda.memory._record_memory_history(enabled=None)
    found = pickle.loads((tmp_path / "snapshot.pickle").read_bytes())
    blocks = {b["address"]: b for s in found["segments"] for b in s["blocks"]}
    own = blocks[x.data_ptr()]
    assert own["state"] == "active_allocated" and own["requested_size"] == 5 * MIB
    assert own["frames"][0]["filename"] == __file__
    assert own["frames"][0]["name"] == "test_snapshot_has_what_the_viewer_reads"
    actions = [event["action"] for event in found["device_traces"][0]]
    assert actions.count("alloc") == 2 and actions[-2:] == ["free_requested", "free_completed"]
    for segment in found["segments"]:
        assert segment["total_size"] == sum(b["size"] for b in segment["blocks"])
    import torch as pt
    from torch.cuda import _memory_viz  # PyTorch's own reader

    pt.cuda.memory._record_memory_history(max_entries=100)
    hold = pt.empty(5 * MIB, dtype=pt.uint8, device="cuda")
    theirs = pt.cuda.memory._snapshot()
    pt.cuda.memory._record_memory_history(enabled=None)
    del hold
    assert found.keys() == theirs.keys()
    for get in (
        lambda s: s["segments"][0],
        lambda s: s["segments"][0]["blocks"][0],
        lambda s: next(e for e in s["device_traces"][0] if e["action"] == "alloc"),
    ):
        types = {name: type(value) for name, value in get(theirs).items()}
        assert {name: type(get(found)[name]) for name in types} == types
    for read in (_memory_viz.segsum, _memory_viz.trace, _memory_viz.trace_plot):
        assert read(found)


@pytest.mark.cuda
@pytest.mark.parametrize("kind", ["expandable", "driver"])
def test_the_other_allocators_train_too(kind: str) -> None:
    import os
    import subprocess
    import sys

    code = """
import vibetensor.torch as torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 64))
model.to("cuda")
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
losses = []
for rows in (512, 64, 4096, 1024):
    x = torch.ones(rows, 64, device="cuda")
    loss = (model(x) - 1).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
del x, loss
torch.cuda.empty_cache()
assert losses[-1] < losses[0]
assert torch.cuda.memory_reserved() >= torch.cuda.memory_allocated() > 0
try:
    torch.empty(10 ** 15, dtype=torch.uint8, device="cuda")
except torch.cuda.OutOfMemoryError as error:
    print(error)
stats = torch.cuda.memory_stats()
assert all(value >= 0 for value in stats.values()), stats
print(torch.cuda.get_allocator_backend(), stats["segment.large_pool.current"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "VIBETENSOR_CUDA_ALLOCATOR": kind},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "out of memory" in done.stdout and "larger than the device" in done.stdout
    backend, segments = done.stdout.splitlines()[-1].split()
    assert backend == {"expandable": "native", "driver": "cudaMallocAsync"}[kind]
    assert int(segments) == {"expandable": 1, "driver": 0}[kind]
