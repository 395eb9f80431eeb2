"""Test cases out of the operator table: inputs, their variants, the expected results."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import formulas
import torch as pt

import vibetensor.torch as vt

sys.path.insert(0, str(Path(__file__).parents[2] / "csrc" / "ops"))
from codegen.schema import Op
from codegen.table import load

TABLE = load(Path(__file__).parents[2] / "csrc" / "ops" / "table")

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")
FLOATS = DTYPES[:4]
VARIANTS = ("plain", "empty", "zero_dim", "broadcast", "transposed", "sliced", "large", "special")

# A result may be off by a few units in the last place, and by more where the table says so.
TOLERANCE = {
    "float64": (1e-10, 1e-12),
    "float32": (2e-5, 2e-6),
    "float16": (4e-3, 4e-3),
    "bfloat16": (3e-2, 2e-2),
}

SPECIAL_VALUES = (float("nan"), float("inf"), float("-inf"), -0.0, 0.0)


@dataclass(frozen=True)
class Made:
    """A tensor argument as the table writes it: ``normal(3,5)``, ``class_index(6;5)``."""

    kind: str
    shape: tuple[int, ...]
    bound: int

    @staticmethod
    def read(text: object) -> Made | None:
        match = (
            re.fullmatch(r"(\w+)\(([\d,]*)(?:;(\d+))?\)", text) if isinstance(text, str) else None
        )
        if not match:
            return None
        shape = tuple(int(size) for size in match[2].split(",") if size)
        return Made(match[1], shape, int(match[3] or 0))

    def tensor(self, dtype: str, shape: tuple[int, ...], generator: pt.Generator) -> pt.Tensor:
        """Values that fit the operator; made in float64, so that all types see nearly the same."""
        if self.kind == "class_index":
            return pt.randint(0, max(self.bound, 1), shape, generator=generator)
        if self.kind == "mask":
            return pt.rand(shape, generator=generator) < 0.5
        if dtype == "bool":
            return pt.rand(shape, generator=generator) < 0.6
        wanted = getattr(pt, dtype)
        if not wanted.is_floating_point or self.kind == "small_int":
            low = 0 if dtype == "uint8" else -3
            values = pt.randint(low, 4, shape, generator=generator)
            if self.kind in ("positive", "away_from_zero"):
                values = pt.where(values == 0, 2, values)
            return (values.abs() if self.kind == "positive" else values).to(wanted)
        values = pt.randn(shape, generator=generator, dtype=pt.float64)
        if self.kind == "positive":
            values = values.abs() + 0.3
        elif self.kind == "away_from_zero":
            values = values + pt.where(values < 0, -0.3, 0.3)
        else:
            assert self.kind == "normal", f"unknown generator {self.kind!r}"
        return values.to(wanted)


@dataclass(frozen=True)
class Case:
    """One call of one operator."""

    op: Op
    number: int
    positional: tuple[Any, ...]
    kwargs: dict[str, Any] = field(hash=False)

    @property
    def id(self) -> str:
        return self.op.name if self.number == 0 else f"{self.op.name}-{self.number}"

    @property
    def test(self) -> dict[str, Any]:
        return dict(self.op.entry["test"])

    def _call(self, arguments: list[Any], kwargs: dict[str, Any], module: Any) -> Any:
        name = self.op.python_name
        if module is pt and "ref" in self.test:
            *path, name = self.test["ref"].split(".")
            if path == ["formulas"]:  # what torch has no function for
                return getattr(formulas, name)(*arguments, **kwargs)
            for part in path:
                module = getattr(module, part)
            return getattr(module, name)(*arguments, **kwargs)
        if self.test.get("as_list"):
            count = len(self.test["inputs"])
            arguments = [arguments[:count], *arguments[count:]]
        for place, holder in (("torch", module), ("nn.functional", module.nn.functional)):
            if place in self.op.places and hasattr(holder, name):
                return getattr(holder, name)(*arguments, **kwargs)
        return getattr(arguments[0], name)(*arguments[1:], **kwargs)

    def ours(self, arguments: list[Any], kwargs: dict[str, Any]) -> Any:
        return self._call(arguments, {k: _ours(v) for k, v in kwargs.items()}, vt)

    def torch(self, arguments: list[Any], kwargs: dict[str, Any]) -> Any:
        return self._call(arguments, {k: _torchs(v) for k, v in kwargs.items()}, pt)

    @property
    def tensors(self) -> list[Made]:
        return [m for m in map(Made.read, self.positional) if m]

    def shapes(self, variant: str) -> list[tuple[int, ...]] | None:
        """The shapes of the tensor arguments, or None where the variant makes no sense."""
        shapes = [made.shape for made in self.tensors]
        if variant in self.test.get("skip", ()):
            return None
        if variant == "empty":
            return [(0, *shape[1:]) if shape else shape for shape in shapes]
        if variant == "zero_dim":
            return [() for _ in shapes]
        if variant == "large":
            return [(shape[0] * 700, *shape[1:]) if shape else shape for shape in shapes]
        if variant == "broadcast":
            if not self.test.get("broadcast"):
                return None
            patterns = [(3, 1), (1, 5), (5,), ()]
            start = zlib.crc32(self.op.name.encode()) % 4
            return [patterns[(start + i) % 4] for i in range(len(shapes))]
        return shapes

    def arguments(self, dtype: str, variant: str) -> list[pt.Tensor] | None:
        """The positional arguments, made anew and always the same."""
        shapes = self.shapes(variant)
        if shapes is None:
            return None
        generator = pt.Generator().manual_seed(zlib.crc32(f"{self.id} {variant}".encode()))
        result: list[Any] = []
        for entry in self.positional:
            made = Made.read(entry)
            if made is None:
                result.append(entry)
                continue
            t = made.tensor(dtype, shapes.pop(0), generator)
            if variant == "special" and made.kind not in ("class_index", "mask"):
                t = _with_special_values(t, generator)
            elif variant == "transposed":
                t = (
                    t.permute(*reversed(range(t.dim())))
                    .contiguous()
                    .permute(*reversed(range(t.dim())))
                )
            elif variant == "sliced":
                t = sliced(t)
            result.append(t)
        return result


def sliced(t: pt.Tensor) -> pt.Tensor:
    """The same values as every other element, from the second on, of something larger."""
    wide = pt.zeros([2 * size + 1 for size in t.shape], dtype=t.dtype)
    window = wide[tuple(slice(1, 2 * size + 1, 2) for size in t.shape)]
    window.copy_(t)
    return window


def _with_special_values(t: pt.Tensor, generator: pt.Generator) -> pt.Tensor:
    if not t.dtype.is_floating_point:
        return t
    flat = t.flatten()
    for i in range(0, flat.numel(), 2):
        flat[i] = SPECIAL_VALUES[int(pt.randint(0, len(SPECIAL_VALUES), (), generator=generator))]
    return flat.view(t.shape)


def _ours(value: Any) -> Any:
    return getattr(vt, value) if value in DTYPES else value


def _torchs(value: Any) -> Any:
    return getattr(pt, value) if value in DTYPES else value


def to_ours(t: Any, requires_grad: bool = False) -> Any:
    """A copy with the same strides."""
    if not isinstance(t, pt.Tensor):
        return t
    base = t.detach()
    memory = base.as_strided(
        (base.untyped_storage().nbytes() // base.element_size(),), (1,), 0
    ).clone()
    made = vt.from_dlpack(memory).as_strided(
        list(base.shape), list(base.stride()), base.storage_offset()
    )
    return made.detach().requires_grad_() if requires_grad else made


def to_torch(t: Any) -> Any:
    if not isinstance(t, vt.Tensor):
        return t
    return pt.from_dlpack(t.detach().cpu().contiguous()).clone()


def cases() -> Iterator[Case]:
    for op in TABLE.ops:
        test = op.entry.get("test")
        if not test or not op.places:
            continue
        for number, kwargs in enumerate(test.get("kwargs", [{}])):
            yield Case(op, number, (*test.get("inputs", []), *test.get("args", [])), kwargs)


CASES = list(cases())


def flat_results(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def assert_same(case: Case, dtype: str, ours: Any, theirs: Any, factor: float = 1.0) -> None:
    """Types, shapes and, within the tolerance of the type, values."""
    mine, yours = flat_results(ours), flat_results(theirs)
    assert len(mine) == len(yours)
    for a, b in zip(mine, yours, strict=True):
        if not isinstance(b, pt.Tensor):
            assert a == b
            continue
        a = to_torch(a)
        assert a.dtype == b.dtype, f"{case.id} {dtype}: {a.dtype}, torch has {b.dtype}"
        assert a.shape == b.shape, (
            f"{case.id} {dtype}: {tuple(a.shape)}, torch has {tuple(b.shape)}"
        )
        exact = not b.dtype.is_floating_point
        rtol, atol = map(
            max,
            zip(*(TOLERANCE.get(t, (0.0, 0.0)) for t in (dtype, str(b.dtype)[6:])), strict=True),
        )
        wider = case.test.get("tol", {}).get(dtype, 0.0)
        rtol, atol = max(rtol, wider), max(atol, wider)
        pt.testing.assert_close(
            a,
            b.detach(),
            rtol=0 if exact else rtol * factor,
            atol=0 if exact else atol * factor,
            equal_nan=True,
        )


def supported(op: Op, dtype: str) -> bool | None:
    """Does the table promise this type? None: it leaves it open."""
    if dtype in FLOATS:
        return None if op.entry.get("over") == "int" else True
    over = op.entry.get("over")
    if over is None:
        return None
    if op.entry.get("dtype") == "float":
        return True
    return over == "all" or (over in ("num", "int") and dtype != "bool") or over == "int"


Runner = Callable[[list[Any], dict[str, Any]], Any]


def attempt(
    run: Runner, arguments: list[Any], kwargs: dict[str, Any]
) -> tuple[Any, Exception | None]:
    try:
        return run(arguments, kwargs), None
    except Exception as error:
        return None, error
