"""The kernel table: one slot an operator and a kind of device, and the files that fill it."""

from __future__ import annotations

from .emit_ops import HEADER
from .schema import Op
from .table import Kernel, Table

OVER = {"all": "kAllTypes", "num": "kNumTypes", "int": "kIntTypes", "float": "kFloatTypes"}
SHARDS = 4  # translation units that the pointwise kernels are spread over, a kind of device


def table_h(table: Table) -> str:
    enum = ", ".join(op.name for op in table.pointwise)
    slots = "\n".join(f"  void (*{k.name})({k.parameters});" for k in table.kernels)
    return (
        HEADER
        + "// The dispatch slots: for each kind of device, one function a kernel.\n#pragma once\n"
        + '#include <atomic>\n\n#include "kernels/types.h"\n\nnamespace vt {\n\n'
        + f"enum class PointwiseOp : uint16_t {{ {enum} }};\n"
        + f"inline constexpr int kPointwiseOps = {len(table.pointwise)};\n\n"
        + f"struct Kernels {{\n  PointwiseFn pointwise[kPointwiseOps];\n{slots}\n}};\n\n"
        + "const Kernels& cpu_kernels();\n"
        + "const Kernels& cuda_kernels();  // in a build without CUDA: an error, as no such tensor can exist\n"
        + "// The table that stands in for the kernels of a kind of device while a step is recorded (fuse/), or null.\n"
        + "extern std::atomic<const Kernels*> g_stand_in[2];\n\n"
        + "inline const Kernels& kernels(Device device) {\n"
        + "  const Kernels* stand_in = g_stand_in[static_cast<int>(device.type)].load(std::memory_order_relaxed);\n"
        + "  if (VT_UNLIKELY(stand_in != nullptr)) return *stand_in;\n"
        + "  return device.is_cpu() ? cpu_kernels() : cuda_kernels();\n}\n\n"
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
    over = OVER[op.entry["over"]]
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


def functors_cpp(table: Table) -> str:
    """What the step compiler knows of each elementwise functor."""
    rows = []
    for op in table.pointwise:
        inputs = len([p for p in op.parameters if p.differentiable])
        functor = op.entry["pointwise"]
        rows.append(
            f"      detail::facts<functor::{functor}, {inputs}, {OVER[op.entry['over']]}>"
            f'("{op.name}", "{functor}", {len(op.parameters) - inputs}),'
        )
    return (
        HEADER
        + '#include "fuse/functors.h"\n\nnamespace vt::fuse {\n\n'
        + "const FunctorFacts& functor_facts(PointwiseOp op) {\n"
        + "  static const FunctorFacts facts[] = {\n"
        + "\n".join(rows)
        + "\n  };\n  return facts[static_cast<int>(op)];\n}\n\n}  // namespace vt::fuse\n"
    )


def _parameters(text: str) -> list[tuple[str, str]]:
    """(type, name) of each parameter in the C++ text."""
    pairs = (part.strip().rsplit(" ", 1) for part in text.split(","))
    return [(kind, name) for kind, name in pairs]


def _recorded(kernel: Kernel) -> str:
    parameters = _parameters(kernel.parameters)
    names = ", ".join(name for _, name in parameters)
    tensors = [name for kind, name in parameters if kind == "const Tensor&"]
    device = f"{tensors[0]}.device()" if tensors else f"{parameters[0][1]}.device"
    return (
        f'void {kernel.name}({kernel.parameters}) {{\n  run_deferred();\n  recorder().pass_by("{kernel.name}");\n'
        f"  actual({device}).{kernel.name}({names});\n}}\n"
    )


def recorded_cpp(table: Table) -> str:
    """The structured half of the table that records: everything pending runs first."""
    entries = "\n".join(f"  table.{k.name} = &{k.name};" for k in table.kernels)
    bodies = "\n".join(_recorded(k) for k in table.kernels)
    return (
        HEADER
        + '#include "device/deferred.h"\n#include "fuse/recorder.h"\n\nnamespace vt::fuse {\n'
        + f"namespace {{\n\n{bodies}\n}}  // namespace\n\n"
        + f"void fill_structured(Kernels& table) {{\n{entries}\n}}\n\n}}  // namespace vt::fuse\n"
    )
