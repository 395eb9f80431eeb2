"""The kernel table: one slot an operator and a kind of device, and the files that fill it."""

from __future__ import annotations

from .emit_ops import HEADER
from .schema import Op
from .table import Table

SHARDS = 4  # translation units that the pointwise kernels are spread over, a kind of device


def table_h(table: Table) -> str:
    enum = ", ".join(op.name for op in table.pointwise)
    slots = "\n".join(f"  void (*{k.name})({k.parameters});" for k in table.kernels)
    return (
        HEADER
        + "// The dispatch slots: for each kind of device, one function a kernel.\n#pragma once\n"
        + '#include "kernels/types.h"\n\nnamespace vt {\n\n'
        + f"enum class PointwiseOp : uint16_t {{ {enum} }};\n"
        + f"inline constexpr int kPointwiseOps = {len(table.pointwise)};\n\n"
        + f"struct Kernels {{\n  PointwiseFn pointwise[kPointwiseOps];\n{slots}\n}};\n\n"
        + "const Kernels& cpu_kernels();\n"
        + "const Kernels& cuda_kernels();  // in a build without CUDA: an error, as no such tensor can exist\n"
        + "inline const Kernels& kernels(Device device) { return device.is_cpu() ? cpu_kernels() : cuda_kernels(); }\n\n"
        + "}  // namespace vt\n"
    )


def _declarations(table: Table) -> str:
    return "\n".join(f"void {k.name}({k.parameters});" for k in table.kernels)


def structured_h(table: Table, namespace: str, guard: str) -> str:
    return (
        HEADER
        + f"// The structured kernels that {guard} implements.\n#pragma once\n"
        + f'#include "kernels/types.h"\n\nnamespace {namespace} {{\n{_declarations(table)}\n}}\n'
    )


def _register(op: Op) -> str:
    inputs = len([p for p in op.parameters if p.differentiable])
    over = {"all": "kAllTypes", "num": "kNumTypes", "int": "kIntTypes", "float": "kFloatTypes"}[
        op.entry["over"]
    ]
    scalars = len(op.parameters) - inputs
    return (
        f"  slots[static_cast<int>(PointwiseOp::{op.name})] = "
        f"&run_pointwise<functor::{op.entry['pointwise']}, {inputs}, {over}, {scalars}>;"
    )


def _shard(table: Table, index: int) -> list[Op]:
    return [op for i, op in enumerate(table.pointwise) if i % SHARDS == index]


def pointwise_shard(table: Table, index: int, namespace: str, include: str) -> str:
    body = "\n".join(_register(op) for op in _shard(table, index))
    return (
        HEADER
        + f'#include "kernels/table.h"\n#include "{include}"\n\nnamespace {namespace} {{\n\n'
        + f"void fill_pointwise_{index}(PointwiseFn* slots) {{\n{body}\n}}\n\n}}  // namespace {namespace}\n"
    )


def table_cpp(table: Table, namespace: str, structured: str) -> str:
    fills = "\n".join(f"void fill_pointwise_{i}(PointwiseFn* slots);" for i in range(SHARDS))
    calls = "\n".join(f"    fill_pointwise_{i}(k.pointwise);" for i in range(SHARDS))
    slots = "\n".join(f"    k.{k.name} = &{k.name};" for k in table.kernels)
    return (
        HEADER
        + f'#include "kernels/table.h"\n#include "{structured}"\n\nnamespace {namespace} {{\n\n{fills}\n\n'
        + "const Kernels& table() {\n  static const Kernels instance = [] {\n    Kernels k{};\n"
        + f"{calls}\n{slots}\n    return k;\n  }}();\n  return instance;\n}}\n\n}}  // namespace {namespace}\n"
    )
