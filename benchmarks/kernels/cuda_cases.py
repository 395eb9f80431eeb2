"""What `cuda.py` measures: calls of either module, inputs, and the bytes that must move."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch as reference

import vibetensor.torch as ours
from vibetensor import _C

_ITEM = {"float32": 4, "bfloat16": 2, "float16": 2, "int64": 8}


@dataclass(frozen=True)
class Case:
    """`call(module, *tensors)` on inputs made by `make(module)`.

    `moved` and `moved_step` are the fewest bytes of forward, and of forward and backward (0: there
    is no backward). `formula` is the same in the words of a user of eager PyTorch. Where there is a
    `build`, build(module, formula or not) makes the whole call.
    """

    name: str
    size: str
    dtype: str
    make: Callable[[Any], list[Any]]
    call: Callable[..., Any]
    moved: float
    moved_step: float = 0
    formula: Callable[..., Any] | None = None
    build: Callable[[Any, bool], Callable[[], Any]] | None = None


def normal(m: Any, *sizes: int, dtype: str, grad: bool = True) -> Any:
    """The same standard normal numbers on the GPU for either module."""
    values = ours.randn(*sizes, device="cuda", dtype=getattr(ours, dtype))
    made = values if m is ours else reference.from_dlpack(values)
    return made.requires_grad_(grad)


def kind(tensor: Any) -> str:
    """The name of a tensor's dtype."""
    return str(tensor.dtype).rpartition(".")[2]


def indices(m: Any, bound: int, *sizes: int) -> Any:
    """The same numbers below `bound` for either module."""
    values = ours.randint(0, bound, sizes, device="cuda")
    return values if m is ours else reference.from_dlpack(values)


def _own(m: Any, name: str) -> Any:
    return getattr(m.nn.functional, name, None)


def norms() -> Iterator[Case]:
    """Layer and RMS norm, alone and behind a residual sum."""
    for rows, n, dtype in (
        (32768, 768, "bfloat16"),
        (4096, 4096, "bfloat16"),
        (8192, 256, "bfloat16"),
        (8192, 256, "float32"),
        (16384, 8192, "bfloat16"),
    ):
        size, one = f"{rows}x{n}", rows * n * _ITEM[dtype]

        def three(m: Any, rows: int = rows, n: int = n, dtype: str = dtype) -> list[Any]:
            return [normal(m, rows, n, dtype=dtype), *(normal(m, n, dtype=dtype) for _ in "wb")]

        def layer_norm(m: Any, x: Any, w: Any, b: Any) -> Any:
            return m.nn.functional.layer_norm(x, (x.shape[-1],), w, b)

        def rms_norm(m: Any, x: Any, w: Any) -> Any:
            return m.nn.functional.rms_norm(x, (x.shape[-1],), w, 1e-5)

        def rms_formula(m: Any, x: Any, w: Any) -> Any:
            wide = x.float()
            scale = m.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)
            return (wide * scale).to(x.dtype) * w

        def two(m: Any, make: Any = three) -> list[Any]:
            return make(m)[:2]

        yield Case("layer_norm", size, dtype, three, layer_norm, 2 * one, 5 * one)
        yield Case("rms_norm", size, dtype, two, rms_norm, 2 * one, 5 * one, rms_formula)

        def residual(m: Any, make: Any = three) -> list[Any]:
            x, w, b = make(m)
            return [x, normal(m, *x.shape, dtype=kind(x)), w, b]

        def add_layer_norm(m: Any, x: Any, r: Any, w: Any, b: Any) -> Any:
            fused = _own(m, "add_layer_norm")
            if fused:
                return fused(x, r, (x.shape[-1],), w, b)
            total = x + r
            return layer_norm(m, total, w, b), total

        def add_rms_norm(m: Any, x: Any, r: Any, w: Any) -> Any:
            fused = _own(m, "add_rms_norm")
            if fused:
                return fused(x, r, (x.shape[-1],), w, 1e-5)
            total = x + r
            return rms_norm(m, total, w), total

        def residual_rms(m: Any, make: Any = residual) -> list[Any]:
            return make(m)[:3]

        yield Case("add_layer_norm", size, dtype, residual, add_layer_norm, 4 * one, 8 * one)
        yield Case("add_rms_norm", size, dtype, residual_rms, add_rms_norm, 4 * one, 8 * one)

        def dropped_norm(m: Any, x: Any, r: Any, w: Any, b: Any) -> Any:
            fused = _own(m, "add_layer_norm")
            if fused:
                return fused(x, r, (x.shape[-1],), w, b, dropout_p=0.1)
            total = m.nn.functional.dropout(x, 0.1) + r
            return layer_norm(m, total, w, b), total

        def apart(m: Any, x: Any, r: Any, w: Any, b: Any) -> Any:
            return add_layer_norm(m, m.nn.functional.dropout(x, 0.1), r, w, b)

        moved = (4 * one, 9 * one)
        yield Case("dropout_add_layer_norm", size, dtype, residual, dropped_norm, *moved)
        yield Case("dropout_before_add_layer_norm", size, dtype, residual, apart, *moved)


def softmaxes() -> Iterator[Case]:
    """Softmax of rows and of columns, cross-entropy with and without its cast to float."""
    for rows, n, dtype in (
        (4096, 4096, "bfloat16"),
        (8192, 32768, "bfloat16"),
        (16384, 256, "bfloat16"),
        (8192, 1024, "float32"),
    ):
        size, one = f"{rows}x{n}", rows * n * _ITEM[dtype]

        def single(m: Any, rows: int = rows, n: int = n, dtype: str = dtype) -> list[Any]:
            return [normal(m, rows, n, dtype=dtype)]

        def softmax(m: Any, x: Any) -> Any:
            return m.softmax(x, dim=-1)

        def log_softmax(m: Any, x: Any) -> Any:
            return m.log_softmax(x, dim=-1)

        yield Case("softmax", size, dtype, single, softmax, 2 * one, 5 * one)
        yield Case("log_softmax", size, dtype, single, log_softmax, 2 * one, 5 * one)
    for rows, n, dtype in (
        (8192, 32768, "bfloat16"),
        (32768, 50304, "bfloat16"),
        (8192, 4096, "bfloat16"),
        (8192, 4096, "float32"),
    ):
        size, one = f"{rows}x{n}", rows * n * _ITEM[dtype]

        def labelled(m: Any, rows: int = rows, n: int = n, dtype: str = dtype) -> list[Any]:
            return [normal(m, rows, n, dtype=dtype), indices(m, n, rows)]

        def cross_entropy(m: Any, x: Any, target: Any) -> Any:
            return m.nn.functional.cross_entropy(x, target)

        def float_cross_entropy(m: Any, x: Any, target: Any) -> Any:
            return m.nn.functional.cross_entropy(x.float(), target)

        formula = float_cross_entropy if dtype != "float32" and rows * n < 1e9 else None
        yield Case("cross_entropy", size, dtype, labelled, cross_entropy, one, 2 * one, formula)

        # As a fused step does it: eagerly, logits of more than 1 GiB are read twice.
        def build(m: Any, formula: bool, make: Any = labelled) -> Callable[[], Any]:
            x, target = make(m)
            rate = m.ones(target.shape[0], device="cuda")

            def separate() -> Any:
                loss = m.nn.functional.cross_entropy(x, target, reduction="none")
                return m.autograd.grad(loss, x, rate.to(loss.dtype))

            def together() -> Any:
                return _C.ops.cross_entropy_both(x.detach(), target, rate, -100, 0.0, False)

            return together if m is ours else separate

        if n > 8192:
            yield Case("loss and gradient", size, dtype, lambda m: [], build, 2 * one, build=build)


def activations() -> Iterator[Case]:
    """Activations, gated activations, rotary embedding and dropout."""

    def single(*sizes: int, dtype: str = "bfloat16") -> Callable[[Any], list[Any]]:
        return lambda m: [normal(m, *sizes, dtype=dtype)]

    def pair(*sizes: int, dtype: str = "bfloat16") -> Callable[[Any], list[Any]]:
        return lambda m: [normal(m, *sizes, dtype=dtype) for _ in range(2)]

    def swiglu_formula(m: Any, gate: Any, up: Any) -> Any:
        return m.nn.functional.silu(gate) * up

    def swiglu(m: Any, gate: Any, up: Any) -> Any:
        fused = _own(m, "swiglu")
        return fused(gate, up) if fused else swiglu_formula(m, gate, up)

    def rope_formula(m: Any, x: Any) -> Any:
        half = x.shape[-1] // 2
        power = m.arange(half, device="cuda", dtype=m.float32) / half
        angle = m.arange(x.shape[-2], device="cuda", dtype=m.float32)[:, None] * 10000.0**-power
        cos, sin = (m.cat((f(angle), f(angle)), -1).to(x.dtype) for f in (m.cos, m.sin))
        turned = m.cat((-x[..., half:], x[..., :half]), -1)
        return x * cos + turned * sin

    def rope(m: Any, x: Any) -> Any:
        fused = _own(m, "rope")
        return fused(x) if fused else rope_formula(m, x)

    for rows, n in ((32768, 3072), (8192, 1024)):
        one = rows * n * 2
        for name, call in (
            ("gelu", lambda m, x: m.nn.functional.gelu(x)),
            ("gelu tanh", lambda m, x: m.nn.functional.gelu(x, approximate="tanh")),
            ("relu", lambda m, x: m.nn.functional.relu(x)),
            ("silu", lambda m, x: m.nn.functional.silu(x)),
        ):
            yield Case(name, f"{rows}x{n}", "bfloat16", single(rows, n), call, 2 * one, 5 * one)
        yield Case(
            "swiglu", f"{rows}x{n}", "bfloat16", pair(rows, n), swiglu, 3 * one, 8 * one,
            swiglu_formula,
        )  # fmt: skip
    for sizes in ((4, 32, 4096, 128), (64, 8, 128, 32)):
        one = 2 * sizes[0] * sizes[1] * sizes[2] * sizes[3]
        size = "x".join(map(str, sizes))
        yield Case("rope", size, "bfloat16", single(*sizes), rope, 2 * one, 4 * one, rope_formula)
    one = 2 * 32768 * 768
    yield Case(
        "dropout", "32768x768", "bfloat16", single(32768, 768),
        lambda m, x: m.nn.functional.dropout(x, 0.1, True), 2 * one, 4 * one,
    )  # fmt: skip


def lookups() -> Iterator[Case]:
    """Embedding and its gradient."""
    for batch, tokens, classes, n, dtype in (
        (32, 1024, 50304, 768, "bfloat16"),
        (64, 128, 4096, 256, "bfloat16"),
        (64, 128, 4096, 256, "float32"),
    ):
        read = batch * tokens * n * _ITEM[dtype]

        def make(
            m: Any, sizes: Any = (batch, tokens), table: Any = (classes, n), dtype: str = dtype
        ) -> list[Any]:
            return [indices(m, table[0], *sizes), normal(m, *table, dtype=dtype)]

        yield Case(
            "embedding", f"{batch}x{tokens} of {classes}x{n}", dtype, make,
            lambda m, i, w: m.nn.functional.embedding(i, w),
            2 * read, 3 * read + classes * n * _ITEM[dtype],
        )  # fmt: skip


def reductions() -> Iterator[Case]:
    """Sums over everything, rows and columns; one huge row."""

    def single(*sizes: int, dtype: str) -> Callable[[Any], list[Any]]:
        return lambda m: [normal(m, *sizes, dtype=dtype, grad=False)]

    for dtype in ("float32", "bfloat16"):
        n = 100_000_000
        for name in ("sum", "mean", "amax", "var", "argmax"):

            def whole(m: Any, x: Any, name: str = name) -> Any:
                return getattr(m, name)(x)

            yield Case(name, "1e8", dtype, single(n, dtype=dtype), whole, n * _ITEM[dtype])
        yield Case(
            "cumsum", "1e8", dtype, single(n, dtype=dtype),
            lambda m, x: m.cumsum(x, dim=0), 2 * n * _ITEM[dtype],
        )  # fmt: skip
    for rows, n, dtype in (
        (32768, 3072, "bfloat16"), (8192, 256, "bfloat16"), (8192, 1024, "float32")
    ):  # fmt: skip
        one = rows * n * _ITEM[dtype]
        for name, dim in (("sum", 0), ("sum", 1), ("amax", 0), ("argmax", 1)):

            def along(m: Any, x: Any, name: str = name, dim: int = dim) -> Any:
                return getattr(m, name)(x, dim=dim)

            make = single(rows, n, dtype=dtype)
            yield Case(f"{name} dim {dim}", f"{rows}x{n}", dtype, make, along, one)


def pointwise() -> Iterator[Case]:
    """Elementwise loops: dense, with a number, a row, a column; copies and casts."""

    def some(count: int, *sizes: int, dtype: str = "bfloat16") -> Callable[[Any], list[Any]]:
        return lambda m: [normal(m, *sizes, dtype=dtype, grad=False) for _ in range(count)]

    rows, n = 32768, 3072
    one = rows * n * 2
    size = f"{rows}x{n}"

    def beside(*other: int) -> Callable[[Any], list[Any]]:
        return lambda m: [*some(1, rows, n)(m), *some(1, *other)(m)]

    yield Case("add", size, "bfloat16", some(2, rows, n), lambda m, a, b: a + b, 3 * one)
    yield Case("add", "8192x256", "bfloat16", some(2, 8192, 256), lambda m, a, b: a + b,
               6 * 8192 * 256)  # fmt: skip
    yield Case("add", size, "float32", some(2, rows, n, dtype="float32"),
               lambda m, a, b: a + b, 6 * one)  # fmt: skip
    yield Case("mul number", size, "bfloat16", some(1, rows, n), lambda m, a: a * 1.5, 2 * one)
    yield Case("add row", size, "bfloat16", beside(n), lambda m, a, b: a + b, 2 * one)
    yield Case("add column", size, "bfloat16", beside(rows, 1), lambda m, a, b: a + b, 2 * one)
    yield Case("add transposed", size, "bfloat16", beside(n, rows), lambda m, a, b: a + b.t(),
               3 * one)  # fmt: skip
    yield Case("to float32", size, "bfloat16", some(1, rows, n), lambda m, a: a.float(), 3 * one)
    yield Case("to bfloat16", size, "float32", some(1, rows, n, dtype="float32"),
               lambda m, a: a.bfloat16(), 3 * one)  # fmt: skip
    yield Case("transpose", size, "bfloat16", some(1, rows, n), lambda m, a: a.t().contiguous(),
               2 * one)  # fmt: skip
    yield Case("transpose", size, "float32", some(1, rows, n, dtype="float32"),
               lambda m, a: a.t().contiguous(), 4 * one)  # fmt: skip
    yield Case("swap heads", "32x1024x12x64", "bfloat16", some(1, 32, 1024, 12, 64),
               lambda m, a: a.transpose(1, 2).contiguous(), 4 * 32 * 1024 * 768)  # fmt: skip
    yield Case("exp", "1e7", "float32", some(1, 10_000_000, dtype="float32"),
               lambda m, a: m.exp(a), 8e7)  # fmt: skip


def orders() -> Iterator[Case]:
    """Sorts and the largest elements of rows; values and positions are written."""
    for *sizes, dtype in (
        (32768, 256, "float32"),
        (8192, 1024, "float32"),
        (8192, 1024, "bfloat16"),
        (512, 32768, "float32"),
        (10_000_000, "float32"),
    ):
        size, count = "x".join(map(str, sizes)), math.prod(sizes)

        def make(m: Any, sizes: Any = sizes, dtype: str = dtype) -> list[Any]:
            return [normal(m, *sizes, dtype=dtype, grad=False)]

        moved = count * (2 * _ITEM[dtype] + 8)
        yield Case("sort", size, dtype, make, lambda m, x: m.sort(x)[0], moved)

    def logits(m: Any) -> list[Any]:
        return [normal(m, 8192, 32768, dtype="bfloat16", grad=False)]

    yield Case("topk 50", "8192x32768", "bfloat16", logits,
               lambda m, x: m.topk(x, 50)[0], 8192 * (32768 * 2 + 50 * 10))  # fmt: skip


def optimizers() -> Iterator[Case]:
    """A step of AdamW over the parameters of a GPT-2; the formula is PyTorch's foreach."""
    layer = [(2304, 768), (2304,), (768, 768), (768,), (3072, 768), (3072,), (768, 3072), (768,)]
    shapes = [(50304, 768), (1024, 768), *(layer + [(768,)] * 4) * 12, (768,), (768,)]

    def build(m: Any, formula: bool) -> Callable[[], Any]:
        parameters = [normal(m, *sizes, dtype="float32") for sizes in shapes]
        for parameter in parameters:
            parameter.grad = normal(m, *parameter.shape, dtype="float32", grad=False)
        way = {} if m is ours else {"foreach": True} if formula else {"fused": True}
        return m.optim.AdamW(parameters, lr=1e-4, **way).step

    count = sum(map(math.prod, shapes))
    yield Case("adamw", f"{count / 1e6:.0f}M", "float32", lambda m: [], build, 28 * count,
               formula=lambda m: None, build=build)  # fmt: skip


FAMILIES = (
    norms, softmaxes, activations, lookups, reductions, pointwise, orders, optimizers,
)  # fmt: skip
