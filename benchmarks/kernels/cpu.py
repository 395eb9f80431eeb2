"""CPU kernels against PyTorch: same work, same threads, rounds interleaved, one JSON line a case.

A ratio is PyTorch's time over ours: above 1 we are faster. Run it as
``python benchmarks/kernels/cpu.py [--threads N] [--rounds N] [--only WORD] [--out FILE]``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch as reference

import vibetensor.torch as ours


class Case(NamedTuple):
    """One measured call: `make(module)` builds the inputs and returns the call."""

    name: str
    size: str
    make: Callable[[Any], Callable[[], Any]]


def tensor(module: Any, *sizes: int, dtype: str = "float32") -> Any:
    """The same seeded normal numbers for either module."""
    generator = reference.Generator().manual_seed(sum(sizes))
    values = reference.randn(*sizes, generator=generator)
    made = values if module is reference else module.from_numpy(values.numpy())
    return made.to(getattr(module, dtype))


def elementwise() -> Iterator[Case]:
    """Dense, in place, with a number, broadcast and transposed operands."""
    for n in (10_000, 100_000, 1_000_000, 10_000_000):
        for name in ("add", "mul", "maximum", "lt", "true_divide"):

            def binary(m: Any, name: str = name, n: int = n) -> Callable[[], Any]:
                a, b, f = tensor(m, n), tensor(m, n), getattr(m, name)
                return lambda: f(a, b)

            yield Case(name, str(n), binary)
        for name in ("exp", "log", "tanh", "sigmoid", "erf", "sqrt", "relu", "neg", "sin"):

            def unary(m: Any, name: str = name, n: int = n) -> Callable[[], Any]:
                a, f = tensor(m, n).abs() + 0.1, getattr(m, name)
                return lambda: f(a)

            yield Case(name, str(n), unary)

        def gelu(m: Any, n: int = n) -> Callable[[], Any]:
            a, f = tensor(m, n), m.nn.functional.gelu
            return lambda: f(a)

        def in_place(m: Any, n: int = n) -> Callable[[], Any]:
            a, b = tensor(m, n), tensor(m, n)
            return lambda: a.add_(b)

        def number(m: Any, n: int = n) -> Callable[[], Any]:
            a = tensor(m, n)
            return lambda: a * 1.5

        def power(m: Any, n: int = n) -> Callable[[], Any]:
            a = tensor(m, n).abs() + 0.1
            return lambda: m.pow(a, 1.7)

        def where(m: Any, n: int = n) -> Callable[[], Any]:
            a, b = tensor(m, n), tensor(m, n)
            condition = a > b
            return lambda: m.where(condition, a, b)

        def narrow(m: Any, n: int = n) -> Callable[[], Any]:
            a, b = tensor(m, n, dtype="bfloat16"), tensor(m, n, dtype="bfloat16")
            return lambda: a + b

        def rows(m: Any, n: int = n) -> Callable[[], Any]:
            a, b = tensor(m, n // 100, 100), tensor(m, 100)
            return lambda: a + b

        def columns(m: Any, n: int = n) -> Callable[[], Any]:
            a, b = tensor(m, n // 100, 100), tensor(m, n // 100, 1)
            return lambda: a * b

        def transposed(m: Any, n: int = n) -> Callable[[], Any]:
            a, b = tensor(m, n // 100, 100), tensor(m, 100, n // 100)
            return lambda: a + b.t()

        for name, make in (
            ("gelu", gelu),
            ("add_", in_place),
            ("mul number", number),
            ("pow 1.7", power),
            ("where", where),
            ("add bfloat16", narrow),
            ("add row", rows),
            ("mul column", columns),
            ("add transposed", transposed),
        ):
            yield Case(name, str(n), make)


def copies() -> Iterator[Case]:
    """Casts and transposes."""
    for n in (10_000, 1_000_000, 10_000_000):
        for source, target in (
            ("float32", "bfloat16"),
            ("bfloat16", "float32"),
            ("float32", "int64"),
            ("float32", "float16"),
        ):

            def cast(
                m: Any, n: int = n, source: str = source, target: str = target
            ) -> Callable[[], Any]:
                a, to = tensor(m, n, dtype=source), getattr(m, target)
                return lambda: a.to(to)

            yield Case(f"{source} to {target}", str(n), cast)

        def contiguous(m: Any, n: int = n) -> Callable[[], Any]:
            a = tensor(m, n // 100, 100).t()
            return lambda: a.contiguous()

        def heads(m: Any, n: int = n) -> Callable[[], Any]:
            a = tensor(m, 4, n // 1000, 5, 50).transpose(1, 2)
            return lambda: a.contiguous()

        yield Case("transpose", str(n), contiguous)
        yield Case("swap heads", str(n), heads)


def reductions() -> Iterator[Case]:
    """Over everything, rows, columns and a middle dimension."""
    for n in (10_000, 100_000, 1_000_000, 10_000_000):
        shapes = {
            "all": ((n,), None),
            "rows": ((n // 100, 100), 1),
            "columns": ((n // 100, 100), 0),
            "middle": ((10, n // 1000, 100), 1),
        }
        for name in ("sum", "mean", "amax", "var"):
            for where, (sizes, dim) in shapes.items():

                def call(
                    m: Any, name: str = name, sizes: Any = sizes, dim: Any = dim
                ) -> Callable[[], Any]:
                    a, f = tensor(m, *sizes), getattr(m, name)
                    return (lambda: f(a)) if dim is None else (lambda: f(a, dim=dim))

                yield Case(f"{name} {where}", str(n), call)

        def arg(m: Any, n: int = n) -> Callable[[], Any]:
            a = tensor(m, n // 100, 100)
            return lambda: m.argmax(a, dim=1)

        def running(m: Any, n: int = n) -> Callable[[], Any]:
            a = tensor(m, n // 100, 100)
            return lambda: m.cumsum(a, dim=1)

        def ordered(m: Any, n: int = n) -> Callable[[], Any]:
            a = tensor(m, n // 100, 100)
            return lambda: m.sort(a)

        yield Case("argmax rows", str(n), arg)
        yield Case("cumsum rows", str(n), running)
        if n <= 1_000_000:
            yield Case("sort rows", str(n), ordered)


def networks() -> Iterator[Case]:
    """Softmax, losses and norms, forward and backward, embedding."""
    for rows, n in ((100, 100), (1000, 100), (1000, 1000), (2048, 128), (10_000, 1000)):
        size = f"{rows}x{n}"

        def backward(m: Any, f: Callable[..., Any], *leaves: Any) -> Callable[[], Any]:
            out = f()
            grad = m.ones_like(out)

            def step() -> Any:
                return m.autograd.grad(f(), leaves, grad)

            return step

        def softmax(m: Any, rows: int = rows, n: int = n) -> Callable[[], Any]:
            a = tensor(m, rows, n)
            return lambda: m.softmax(a, dim=1)

        def softmax_outer(m: Any, rows: int = rows, n: int = n) -> Callable[[], Any]:
            a = tensor(m, rows, n)
            return lambda: m.softmax(a, dim=0)

        def log_softmax(m: Any, rows: int = rows, n: int = n) -> Callable[[], Any]:
            a = tensor(m, rows, n)
            return lambda: m.log_softmax(a, dim=1)

        def layer_norm(m: Any, rows: int = rows, n: int = n) -> Callable[[], Any]:
            a, w, b, f = tensor(m, rows, n), tensor(m, n), tensor(m, n), m.nn.functional.layer_norm
            return lambda: f(a, (n,), w, b)

        def layer_norm_step(m: Any, rows: int = rows, n: int = n) -> Callable[[], Any]:
            a, w, b, f = tensor(m, rows, n), tensor(m, n), tensor(m, n), m.nn.functional.layer_norm
            for t in (a, w, b):
                t.requires_grad_(True)
            return backward(m, lambda: f(a, (n,), w, b), a, w, b)

        def softmax_step(m: Any, rows: int = rows, n: int = n) -> Callable[[], Any]:
            a = tensor(m, rows, n).requires_grad_(True)
            return backward(m, lambda: m.softmax(a, dim=1), a)

        def cross_entropy(m: Any, rows: int = rows, n: int = n) -> Callable[[], Any]:
            a, f = tensor(m, rows, n).requires_grad_(True), m.nn.functional.cross_entropy
            target = m.arange(rows) % n
            return backward(m, lambda: f(a, target), a)

        def embedding(m: Any, rows: int = rows, n: int = n) -> Callable[[], Any]:
            table, f = tensor(m, 500, n).requires_grad_(True), m.nn.functional.embedding
            index = m.arange(rows) * 7 % 500
            return backward(m, lambda: f(index, table), table)

        for name, make in (
            ("softmax", softmax),
            ("softmax dim 0", softmax_outer),
            ("log_softmax", log_softmax),
            ("layer_norm", layer_norm),
            ("layer_norm step", layer_norm_step),
            ("softmax step", softmax_step),
            ("cross_entropy step", cross_entropy),
            ("embedding step", embedding),
        ):
            yield Case(name, size, make)


def products() -> Iterator[Case]:
    """Matrix products: squares, the shapes of a small GPT step, tiny ones, batches."""
    shapes = [(4, 4, 4), (16, 16, 16), (64, 64, 64), (128, 128, 128)]
    shapes += [(n, n, n) for n in (256, 512, 1024, 2048)]
    shapes += [
        (2048, 128, 512),
        (2048, 512, 128),
        (2048, 128, 384),
        (2048, 128, 1024),
        (128, 2048, 512),
        (1, 1024, 1024),
        (1024, 1024, 1),
    ]
    for m_, k, n in shapes:

        def plain(m: Any, m_: int = m_, k: int = k, n: int = n) -> Callable[[], Any]:
            a, b = tensor(m, m_, k), tensor(m, k, n)
            return lambda: a @ b

        def linear(m: Any, m_: int = m_, k: int = k, n: int = n) -> Callable[[], Any]:
            a, w, b, f = tensor(m, m_, k), tensor(m, n, k), tensor(m, n), m.nn.functional.linear
            return lambda: f(a, w, b)

        def left(m: Any, m_: int = m_, k: int = k, n: int = n) -> Callable[[], Any]:
            a, b = tensor(m, k, m_).t(), tensor(m, k, n)
            return lambda: a @ b

        yield Case("matmul", f"{m_}x{k}x{n}", plain)
        yield Case("linear", f"{m_}x{k}x{n}", linear)
        yield Case("matmul a.T", f"{m_}x{k}x{n}", left)
    for b_, m_, k, n in ((64, 128, 16, 128), (64, 128, 128, 16), (64, 64, 32, 64)):

        def batch(m: Any, b_: int = b_, m_: int = m_, k: int = k, n: int = n) -> Callable[[], Any]:
            a, b = tensor(m, b_, m_, k), tensor(m, b_, k, n)
            return lambda: a @ b

        yield Case("bmm", f"{b_}x{m_}x{k}x{n}", batch)


FAMILIES = (elementwise, copies, reductions, networks, products)


def once(call: Callable[[], Any], repeats: int) -> float:
    """Seconds a call, over `repeats` calls."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Medians of interleaved rounds of about 5 ms; on a busy machine the best rounds say more."""
    calls = [case.make(reference), case.make(ours)]
    for call in calls:
        call()
    longest = max(once(call, 1) for call in calls)
    repeats = max(1, int(0.005 / max(longest, 1e-7)))
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for series, call in zip(times, calls, strict=True):
            series.append(once(call, repeats))
    theirs, mine = (statistics.median(series) for series in times)
    return {
        "case": case.name,
        "size": case.size,
        "torch_us": round(theirs * 1e6, 3),
        "ours_us": round(mine * 1e6, 3),
        "ratio": round(theirs / mine, 3),
        "ratio_of_best": round(min(times[0]) / min(times[1]), 3),
    }


def main() -> None:
    """Measures the chosen cases and prints one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="families or cases whose name contains this")
    parser.add_argument("--out", type=argparse.FileType("a"), default=sys.stdout)
    options = parser.parse_args()
    reference.set_num_threads(options.threads)
    ours.set_num_threads(options.threads)
    header = {
        "threads": options.threads,
        "cpu": platform.processor() or platform.machine(),
        "torch": reference.__version__,
    }
    print(json.dumps(header), file=options.out, flush=True)
    for family in FAMILIES:
        for case in family():
            if options.only in family.__name__ or options.only in case.name:
                print(json.dumps(measure(case, options.rounds)), file=options.out, flush=True)


if __name__ == "__main__":
    main()
