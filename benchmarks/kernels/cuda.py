"""Memory-bound CUDA kernels against PyTorch, as fractions of what a copy reaches.

Each case runs forward under no_grad, and forward with backward; ours, PyTorch eager, the formula a
user would write, and torch.compile where asked. The host has no part in the times: calls are queued
behind a sleep or, with --captured, replayed from a CUDA graph, ours and PyTorch's alike (`queued`
names what could not be captured and why). Inputs rotate, so that they do not lie in the GPU's
cache. One JSON line a case: `us` are medians, `copy` is the fraction of the copy ceiling in bytes
that must move, `wrong` the largest deviation from PyTorch in units of the type's precision times
the largest value. --part 0/4 takes every fourth case; --warm compiles and measures nothing, so that
several processes can fill the compiler's cache at once. Run it as
``python benchmarks/kernels/cuda.py [--only WORD,...] [--compile] [--captured] [--out FILE]``.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch as reference
from cuda_cases import FAMILIES, Case, kind, normal

import vibetensor.torch as ours
from vibetensor.graph_timing import seconds_in_graph

Call = Callable[[], Any]
_CACHE = 50e6  # bytes of the GPU's second-level cache
_CYCLES = 2.0e9  # a second, at least


def outputs(result: Any) -> list[Any]:
    """A result or a tuple of them, as a list."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


def call_of(m: Any, function: Callable[..., Any], tensors: list[Any], step: bool) -> Call:
    """Forward without a graph, or forward and the gradients of every leaf."""
    if not step:
        tensors = [t.detach() for t in tensors]

        def forward() -> Any:
            with m.no_grad():
                return function(m, *tensors)

        return forward
    leaves = [t for t in tensors if t.requires_grad]
    with m.no_grad():
        results = outputs(function(m, *tensors))
    grads = [
        None if t.dim() == 0 else normal(m, *t.shape, dtype=kind(t), grad=False) for t in results
    ]

    def both() -> Any:
        return m.autograd.grad(outputs(function(m, *tensors)), leaves, grads)

    return both


def calls(m: Any, function: Callable[..., Any], case: Case, step: bool) -> list[Call]:
    """The call on as many sets of inputs as overflow the cache."""
    ours.manual_seed(0)
    if case.build:
        return [case.build(m, function is case.formula)]
    count = max(1, min(32, int(4 * _CACHE / case.moved)))
    return [call_of(m, function, case.make(m), step) for _ in range(count)]


def enqueue(sequence: list[Call], count: int) -> None:
    """`count` calls, from set to set."""
    for i in range(count):
        sequence[i % len(sequence)]()


def measure(sequence: list[Call], rounds: int) -> float:
    """Microseconds of GPU time a call."""
    stream = reference.cuda.current_stream()
    first, last = (reference.cuda.Event(enable_timing=True) for _ in range(2))
    enqueue(sequence, max(3, len(sequence)))
    stream.synchronize()
    begin = time.perf_counter()
    enqueue(sequence, 3)
    host = (time.perf_counter() - begin) / 3
    stream.synchronize()
    count = max(3, min(30, int(5e-3 / max(1e-7, (time.perf_counter() - begin) / 3))))
    times = []
    for _ in range(rounds):
        reference.cuda._sleep(int(_CYCLES * host * count * 1.2) + 1000)
        first.record()
        enqueue(sequence, count)
        last.record()
        stream.synchronize()
        times.append(first.elapsed_time(last) * 1e3 / count)
    return statistics.median(times)


def captured(m: Any, sequence: list[Call], rounds: int) -> float:
    """Microseconds of GPU time a call, among many in one graph of the library m."""
    enqueue(sequence, max(3, len(sequence)))
    reference.cuda.synchronize()
    begin = time.perf_counter()
    enqueue(sequence, 3)
    reference.cuda.synchronize()
    each = (time.perf_counter() - begin) / 3
    count = max(len(sequence), 3, min(60, int(2e-3 / each)))
    turns = itertools.cycle(sequence)
    if m is ours:
        times = seconds_in_graph(lambda: next(turns)(), ["cuda:0"], calls=count, replays=rounds)
        return statistics.median(times) * 1e6
    graph = reference.cuda.CUDAGraph()
    with reference.cuda.graph(graph, capture_error_mode="relaxed"):
        for _ in range(count):
            next(turns)()
    marks = [reference.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]
    for _ in range(3):
        graph.replay()
    marks[0].record()
    for mark in marks[1:]:
        graph.replay()
        mark.record()
    reference.cuda.synchronize()
    pairs = itertools.pairwise(marks)
    return statistics.median(a.elapsed_time(b) for a, b in pairs) * 1e3 / count


def timed_captured(
    m: Any, name: str, sequence: list[Call], line: dict[str, Any], rounds: int
) -> float:
    """As captured(); where a call cannot be captured, `line` says why and it is queued."""
    try:
        return captured(m, sequence, rounds)
    except RuntimeError as error:
        line.setdefault("queued", {})[name] = str(error).partition("\n")[0][:100]
        return measure(sequence, rounds)


def deviation(mine: Any, theirs: Any) -> float:
    """The largest difference, in units of the precision times the largest value."""
    worst = 0.0
    for a, b in zip(outputs(mine), outputs(theirs), strict=True):
        a = reference.from_dlpack(a.detach())
        if not b.dtype.is_floating_point:
            worst = max(worst, float((a != b).sum()))
            continue
        unit = reference.finfo(b.dtype).eps * max(1e-30, float(b.abs().max()))
        worst = max(worst, float((a - b).abs().max()) / unit)
    return round(worst, 2)


def run(case: Case, step: bool, ceiling: float, options: argparse.Namespace) -> dict[str, Any]:
    """One line: the variants of one case."""
    moved = case.moved_step if step else case.moved
    line: dict[str, Any] = {
        "case": case.name, "size": case.size, "dtype": case.dtype,
        "pass": "step" if step else "forward", "floor_us": round(moved / ceiling * 1e6, 2),
    }  # fmt: skip
    variants = {"ours": (ours, case.call), "torch": (reference, case.call)}
    if case.formula:
        variants["formula"] = (reference, case.formula)
    if options.compile and not case.build:
        reference._dynamo.reset()
        made = reference.compile(case.formula or case.call, dynamic=False)
        variants["compile"] = (reference, made)
    if options.warm:
        calls(*variants["compile"], case, step)[0]()
        return line
    first: dict[str, Any] = {}
    for name, (m, function) in variants.items():
        sequence = calls(m, function, case, step)
        compared = case.moved < 2e9 and name in ("ours", "torch") and not case.build
        first[name] = sequence[0]() if compared else None
        if options.captured and not case.build:
            time_us = timed_captured(m, name, sequence, line, options.rounds)
        else:
            time_us = measure(sequence, options.rounds)
        line[f"{name}_us"] = round(time_us, 2)
    if first["ours"] is not None and "dropout" not in case.name:
        line["wrong"] = deviation(first["ours"], first["torch"])
    line["copy"] = round(line["floor_us"] / line["ours_us"], 3)
    for name in list(variants)[1:]:
        line[f"x_{name}"] = round(line[f"{name}_us"] / line["ours_us"], 2)
    return line


def chosen(options: argparse.Namespace) -> Iterator[tuple[Case, bool]]:
    """The cases asked for, forward and, where there is one, with backward."""
    part, parts = (int(word) for word in options.part.split("/"))
    number = 0
    for family in FAMILIES:
        for case in family():
            if not any(w in family.__name__ or w in case.name for w in options.only.split(",")):
                continue
            if options.warm and case.build:
                continue
            for step in (False, True):
                if step and (options.forward or not case.moved_step):
                    continue
                number += 1
                if number % parts == part:
                    yield case, step


def copy_ceiling() -> float:
    """Bytes a second, read and written, of a copy of 1 GiB."""
    a, b = (reference.empty(1 << 30, dtype=reference.uint8, device="cuda") for _ in range(2))
    return 2 * (1 << 30) / (measure([lambda: b.copy_(a)], 9) * 1e-6)


def main() -> None:
    """Measures the chosen cases and prints one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", default="", help="families or cases whose name contains one of these words"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile too (slow to start)")
    parser.add_argument("--captured", action="store_true", help="calls replayed from a graph")
    parser.add_argument("--warm", action="store_true", help="compile only")
    parser.add_argument("--part", default="0/1", help="I/N: every N-th case, from the I-th on")
    parser.add_argument("--forward", action="store_true", help="no backward passes")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop starting cases after that")
    parser.add_argument("--out", type=argparse.FileType("a"), default=sys.stdout)
    options = parser.parse_args()
    options.compile |= options.warm
    begin = time.perf_counter()
    ceiling = 1.0 if options.warm else copy_ceiling()
    header = {
        "gpu": reference.cuda.get_device_name(), "torch": reference.__version__,
        "copy_tb_s": round(ceiling / 1e12, 3),
    }  # fmt: skip
    print(json.dumps(header), file=options.out, flush=True)
    for case, step in chosen(options):
        if time.perf_counter() - begin > options.seconds:
            return
        with contextlib.ExitStack() as stack:
            stack.callback(reference.cuda.empty_cache)
            stack.callback(ours.cuda.empty_cache)
            line = run(case, step, ceiling, options)
        print(json.dumps(line), file=options.out, flush=True)


if __name__ == "__main__":
    main()
