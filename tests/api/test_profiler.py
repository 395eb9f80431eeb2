"""The profiler: what it sees, how it counts, and the forms it gives that in."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path
from typing import Any

import pytest

import vibetensor.torch as torch
from vibetensor.autograd.profiler import emit_nvtx
from vibetensor.cli import main
from vibetensor.profiler import (
    ProfilerAction,
    ProfilerActivity,
    profile,
    record_function,
    schedule,
    tensorboard_trace_handler,
)
from vibetensor.profiler.averages import readable

CPU = [ProfilerActivity.CPU]


def named(prof: profile, name: str) -> Any:
    found = [row for row in prof.key_averages() if row.key == name]
    assert len(found) == 1, f"{name} is not in {[row.key for row in prof.key_averages()]}"
    return found[0]


def test_operations_forward_and_backward_are_counted() -> None:
    x = torch.randn(8, 16, requires_grad=True)
    w = torch.randn(16, 4)
    with profile(activities=CPU) as prof:
        for _ in range(3):
            (x @ w).relu().sum().backward()
    assert named(prof, "matmul").count >= 3 and named(prof, "relu").count == 3
    assert named(prof, "ReluBackward").count == 3
    row = named(prof, "relu")
    assert 0 < row.self_cpu_time_total <= row.cpu_time_total
    x.relu()
    assert named(prof, "relu").count == 3  # nothing is seen outside


def test_ranges_nest_and_self_time_leaves_children_out() -> None:
    x = torch.randn(100, 100)
    with profile(activities=CPU) as prof:
        with record_function("outer"), record_function("inner"):
            x.exp()

        @record_function("function")
        def f() -> None:
            x.log()

        f()
    by_name = {event.name: event for event in prof.events()}
    assert by_name["exp"].parent is by_name["inner"]
    assert by_name["inner"].parent is by_name["outer"]
    assert by_name["log"].parent is by_name["function"]
    outer = named(prof, "outer")
    assert outer.self_cpu_time_total == pytest.approx(
        outer.cpu_time_total - named(prof, "inner").cpu_time_total
    )
    total = sum(row.self_cpu_time_total for row in prof.key_averages())
    tops = sum(e.duration for e in prof.events() if e.parent is None)
    assert total == pytest.approx(tops)


def test_shapes_make_rows_of_their_own() -> None:
    a, b = torch.ones(2, 3), torch.ones(3)
    with profile(activities=CPU, record_shapes=True) as prof:
        a + b
        a + a
        a + 1
        torch.cat([a, a])
    shapes = {r.input_shapes for r in prof.key_averages(True) if r.key == "add"}
    assert shapes == {"[[2, 3], [3]]", "[[2, 3], [2, 3]]", "[[2, 3], []]"}
    cat = next(r for r in prof.key_averages(True) if r.key == "cat")
    assert cat.input_shapes == "[[2, 3], [2, 3]]"


def test_memory_belongs_to_the_operation_that_takes_it() -> None:
    with profile(activities=CPU, profile_memory=True) as prof, record_function("block"):
        x = torch.ones(1000, 1000)
        y = x.exp()
        del x
    exp = named(prof, "exp")
    assert exp.cpu_memory_usage == exp.self_cpu_memory_usage == 4_000_000
    assert named(prof, "block").cpu_memory_usage == 4_000_000  # x came and went
    assert y.shape == (1000, 1000)
    assert "CPU mem" in prof.key_averages().table()


def test_stacks_name_the_line() -> None:
    x = torch.ones(3)
    with profile(activities=CPU, with_stack=True) as prof:
        x.exp()
    event = next(e for e in prof.events() if e.name == "exp")
    assert event.stack[0].startswith(f"{__file__}:")
    assert event.stack[0].endswith(" test_stacks_name_the_line")
    # Large operations and backward passes run without the GIL.
    large = torch.ones(300, 300, requires_grad=True)
    with profile(activities=CPU, with_stack=True) as prof:
        large.exp().sum().backward()
    assert len(prof.events()) >= 4
    for event in prof.events():
        assert event.stack[0].endswith(" test_stacks_name_the_line"), event


def test_stacks_make_rows_and_lines_of_flame_graphs(tmp_path: Path) -> None:
    x = torch.ones(200, 200)
    with profile(activities=CPU, with_stack=True) as prof:
        x.exp()
        (x + 1).exp()
    assert len([row for row in prof.key_averages() if row.key == "exp"]) == 1
    rows = [row for row in prof.key_averages(group_by_stack_n=1) if row.key == "exp"]
    assert len(rows) == 2 and all(row.stack[0].startswith(__file__) for row in rows)
    assert " test_stacks_make_rows" in prof.key_averages(group_by_stack_n=1).table()
    prof.export_stacks(tmp_path / "stacks")
    lines = (tmp_path / "stacks").read_text().splitlines()
    assert any(";exp " in line and "test_stacks_make_rows" in line for line in lines)
    assert all(line.rpartition(" ")[2].isdigit() for line in lines)
    with pytest.raises(ValueError, match="self_cpu_time_total"):
        prof.export_stacks(tmp_path / "stacks", "colour")
    with profile(activities=CPU) as without:
        x.exp()
    with pytest.raises(RuntimeError, match="with_stack=True"):
        without.export_stacks(tmp_path / "stacks")


def test_the_total_adds_all_rows_up() -> None:
    with profile(activities=CPU) as prof:
        torch.ones(3).exp().log()
    rows = prof.key_averages()
    total = rows.total_average()
    assert total.key == "Total" and total.count == sum(row.count for row in rows)
    assert total.self_cpu_time_total == pytest.approx(rows.self_cpu_time_total)


def test_each_recording_has_a_file_for_tensorboard(tmp_path: Path) -> None:
    handler = tensorboard_trace_handler(tmp_path / "logs", "me", use_gzip=True)
    with profile(
        activities=CPU, schedule=schedule(wait=0, warmup=0, active=1), on_trace_ready=handler
    ) as prof:
        prof.add_metadata("run", "seven")
        prof.add_metadata_json("sizes", "[1, 2]")
        for _ in range(2):
            torch.ones(3).exp()
            prof.step()
    files = sorted((tmp_path / "logs").iterdir())
    assert len(files) >= 2
    for file in files:
        assert file.name.startswith("me.") and file.name.endswith(".pt.trace.json.gz")
        trace = json.loads(gzip.decompress(file.read_bytes()))
        assert trace["run"] == "seven" and trace["sizes"] == [1, 2] and trace["traceEvents"]


def test_ranges_for_other_profilers_come_beside_a_recording_and_without_one() -> None:
    x = torch.ones(3, requires_grad=True)
    with emit_nvtx(record_shapes=True):
        with torch.cuda.nvtx.range("outer"):
            x.exp().sum().backward()
        with profile(activities=CPU) as prof, record_function("inside"):
            x.exp()
        x.exp()
        with pytest.raises(RuntimeError, match="another block"), emit_nvtx():
            pass
    x.exp()
    assert named(prof, "exp").count == 1 and named(prof, "inside").count == 1
    with emit_nvtx(enabled=False), profile(activities=CPU) as prof:
        x.exp()
    assert named(prof, "exp").count == 1


def test_threads_have_lanes_of_their_own() -> None:
    def work() -> None:
        torch.ones(10).exp()

    with profile(activities=CPU) as prof:
        work()
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({e.thread for e in prof.events() if e.name == "exp"}) == 4


def test_a_schedule_waits_warms_up_and_records() -> None:
    actions = schedule(skip_first=1, wait=1, warmup=1, active=2, repeat=2)
    names = [actions(step).name for step in range(11)]
    turn = ["NONE", "WARMUP", "RECORD", "RECORD_AND_SAVE"]
    assert names == ["NONE", *turn, *turn, "NONE", "NONE"]
    seen: list[list[str]] = []

    def ready(prof: profile) -> None:
        steps = [e.name for e in prof.events() if e.name.startswith("ProfilerStep")]
        assert named(prof, "exp").count == 2
        seen.append(steps)

    x = torch.ones(3)
    with profile(activities=CPU, schedule=actions, on_trace_ready=ready) as prof:
        for _ in range(11):
            x.exp()
            prof.step()
    assert seen == [["ProfilerStep#3", "ProfilerStep#4"], ["ProfilerStep#7", "ProfilerStep#8"]]
    at_once = schedule(wait=1, warmup=1, active=1, skip_first=1, skip_first_wait=1)
    names = [at_once(step).name for step in range(6)]
    assert names == ["NONE", *turn[1:2], turn[3], turn[0], turn[1], turn[3]]
    assert prof.step_num == 11 and ProfilerAction.NONE is actions(100)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="active of at least 1"):
        schedule(wait=0, warmup=0, active=0)
    with pytest.raises(ValueError, match="at least one activity"):
        profile(activities=[])
    prof = profile(activities=CPU)
    with pytest.raises(RuntimeError, match="nothing was recorded yet"):
        prof.key_averages()
    with prof, pytest.raises(RuntimeError, match="another profile is running"):
        profile(activities=CPU).start()
    with pytest.raises(ValueError, match="sort_by: expected one of"):
        prof.key_averages().table(sort_by="colour")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(RuntimeError, match="the GPU cannot be traced"):
        profile(activities=[ProfilerActivity.CUDA]).start()
    with profile() as prof:
        torch.ones(3).exp()
    assert named(prof, "exp").count == 1


def test_an_error_ends_the_profile_and_its_events() -> None:
    with pytest.raises(RuntimeError), profile(activities=CPU) as prof, record_function("bad"):
        torch.ones(3) @ torch.ones(4)
    assert named(prof, "bad").count == 1
    with profile(activities=CPU):
        pass


def test_the_trace_is_what_perfetto_reads(tmp_path: Path) -> None:
    with profile(activities=CPU, profile_memory=True, record_shapes=True) as prof:
        torch.ones(1000, 10).exp()
    prof.export_chrome_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    events = trace["traceEvents"]
    exp = next(e for e in events if e["name"] == "exp")
    assert exp["ph"] == "X" and exp["cat"] == "cpu_op" and exp["dur"] > 0
    assert exp["args"]["Input Dims"] == "[[1000, 10]]"
    memory = [e for e in events if e["name"] == "[memory]"]
    assert {e["args"]["Bytes"] for e in memory} >= {40_000, -40_000}
    assert any(e["ph"] == "M" and e["name"] == "thread_name" for e in events)
    for event in events:
        assert {"ph", "pid", "name", "ts"} <= event.keys()


def test_the_table_has_totals_and_limits_rows() -> None:
    x = torch.ones(10)
    with profile(activities=CPU) as prof:
        for _ in range(5):
            x.exp().log()
    text = prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=1, header="Mine")
    assert text.startswith("Mine\n") and "Self CPU time total" in text
    assert ("exp" in text) != ("log" in text)


@pytest.mark.parametrize(
    ("kernel", "shown"),
    [
        (
            "void vt::cuda::(anonymous namespace)::rows_kernel<vt::BFloat16, 64>(vt::X<(int)1>)",
            "rows_kernel<BFloat16, 64>",
        ),
        ("vt::cuda::split_kernel<(vt::cuda::Layout)0, 2>(int)", "split_kernel<(Layout)0, 2>"),
        ("void cub::CUB_300001_SM_900::detail::scan::Kernel<cub::P>(P)", "scan::Kernel<P>"),
        ("_ZN7cutlass13device_kernelINS_4gemm6kernelEEEvT_", "cutlass::device_kernel<...>"),
        ("nvjet_sm90_tst_128x64_NNT", "nvjet_sm90_tst_128x64_NNT"),
        ("Memcpy HtoD", "Memcpy HtoD"),
    ],
)
def test_kernels_have_names_to_read(kernel: str, shown: str) -> None:
    assert readable(kernel) == shown


def test_the_command_prints_a_table_and_writes_a_trace(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "trace.json"
    options = "--devices cpu --steps 2 --warmup 1 --memory --out"
    code = main(["profile", "digits", *options.split(), str(out)])
    text = capsys.readouterr().out
    assert code == 0 and "training step" in text and "linear" in text
    assert json.loads(out.read_text())["traceEvents"]


@pytest.mark.cuda
@pytest.mark.unsanitized("CUPTI and compute-sanitizer cannot watch one process")
def test_the_command_shows_operations_of_steps_that_are_not_captured(capsys: Any) -> None:
    options = "--devices cuda:0 --steps 1 --warmup 4 --rows -1"
    assert main(["profile", "digits", *options.split(), "--eager"]) == 0
    assert "LinearBackward" in capsys.readouterr().out
    assert main(["profile", "digits", *options.split()]) == 0
    assert "LinearBackward" not in capsys.readouterr().out


@pytest.mark.cuda
@pytest.mark.unsanitized("CUPTI and compute-sanitizer cannot watch one process")
def test_kernels_and_copies_belong_to_operations() -> None:
    host = torch.ones(1 << 20).pin_memory()
    x = torch.ones(1024, 1024, device="cuda", requires_grad=True)
    (x @ x).relu().sum().backward()
    with profile(profile_memory=True) as prof:
        with record_function("step"):
            y = (x @ x).relu().sum()
            y.backward()
        there = host.to("cuda", non_blocking=True)
        there.to("cpu")
    rows = {(row.key, row.on_device): row for row in prof.key_averages()}
    assert rows["relu", False].device_time_total > 0
    assert rows["step", False].self_device_time_total <= rows["step", False].device_time_total
    assert rows["ReluBackward", False].device_time_total > 0
    assert rows["relu", False].device_memory_usage == 4 << 20
    kernels = [e for e in prof.events() if e.kind == "kernel"]
    assert len(kernels) >= 6
    owned = [e for e in kernels if e.parent is not None]
    assert len(owned) == len(kernels)
    for kernel in kernels:
        assert kernel.duration > 0 and kernel.details["grid"][0] > 0
        assert kernel.parent is not None and kernel.start >= kernel.parent.start - 100
    copies = {e.name: e for e in prof.events() if e.kind == "copy"}
    assert copies["Memcpy HtoD"].details["bytes"] == 4 << 20
    assert "Memcpy DtoH" in copies
    table = prof.key_averages().table(sort_by="cuda_time_total")
    assert "Self CUDA time total" in table


@pytest.mark.cuda
@pytest.mark.unsanitized("CUPTI and compute-sanitizer cannot watch one process")
def test_the_trace_has_a_lane_a_stream(tmp_path: Path) -> None:
    x = torch.ones(1 << 20, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with profile() as prof:
        x.exp()
        with torch.cuda.stream(side):
            x.log()
        side.synchronize()
    prof.export_chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    kernels = [e for e in events if e.get("cat") == "kernel"]
    assert len({(e["pid"], e["tid"]) for e in kernels}) == 2
    starts = {e["id"] for e in events if e["ph"] == "s"}
    assert starts == {e["id"] for e in events if e["ph"] == "f"} and len(starts) >= 2
    # Of a kernel, or of a graph that is one kernel.
    assert any("LaunchKernel" in e["name"] or "GraphLaunch" in e["name"] for e in events)


@pytest.mark.cuda
@pytest.mark.unsanitized("CUPTI and compute-sanitizer cannot watch one process")
def test_a_second_profile_sees_only_its_own() -> None:
    x = torch.ones(100, device="cuda")
    for _ in range(2):
        with profile(activities=[ProfilerActivity.CUDA]) as prof:
            x.exp()
        assert [e.kind for e in prof.events()] == ["kernel"]
