"""Operators as a region of autocast calls them: inputs cast by the rule that the table names, then the operator.

`autocast: lower` casts to the type of the region, `float32` to float32, `widest` to the widest type among the inputs, all
with float64 and integers left alone; `{cpu: ..., cuda: ...}` where the kinds of devices differ, or where only one casts. An
operator that takes `dtype` and follows `float32` is given that in place of a cast. Without the key nothing is cast.
"""

from __future__ import annotations

from . import emit_sharding
from .emit_ops import HEADER
from .schema import Op
from .table import Table

RULES = {"none": "kNone", "lower": "kLower", "float32": "kFloat32", "widest": "kWidest"}


def _gives_dtype(op: Op) -> bool:
    """Is the type of the result asked for, instead of a cast?"""
    return any(p.name == "dtype" for p in op.parameters)


def _body(op: Op, namespace: str, tensor: str, operand: str) -> str:
    inputs = [p for p in op.parameters if p.differentiable]
    given = ", ".join(
        [*(f"CastRule::{RULES[rule]}" for rule in op.autocast.values()), *(p.name for p in inputs)]
    )
    if _gives_dtype(op):
        passed = [
            f"cast.result_type(dtype, {inputs[0].name})" if p.name == "dtype" else p.name
            for p in op.parameters
        ]
    else:
        passed = [f"cast({p.name})" if p in inputs else p.name for p in op.parameters]
    return (
        f"  const Casts<{tensor}, {operand}> cast({given});\n"
        f"  return {namespace}::{op.name}({', '.join(passed)});\n"
    )


def _core(op: Op) -> str:
    return f"{op.return_type(raw=False)} {op.name}({op.cpp_parameters()})"


def ops_h(table: Table) -> str:
    lines = "\n".join(f"{_core(op)};" for op in table.ops if op.autocast)
    return (
        HEADER
        + "// Operators as a region of autocast calls them.\n#pragma once\n"
        + '#include "autograd/autocast.h"\n#include "ops/ops.h"\n\nnamespace vt::autocast {\n\n'
        + f"{lines}\n\n}}  // namespace vt::autocast\n"
    )


def ops_cpp(table: Table) -> str:
    bodies = "\n".join(
        f"{_core(op)} {{\n{_body(op, 'vt', 'Tensor', 'Operand')}}}\n"
        for op in table.ops
        if op.autocast
    )
    return (
        HEADER
        + '#include "autograd/autocast_ops.h"\n\nnamespace vt::autocast {\n\n'
        + f"{bodies}\n}}  // namespace vt::autocast\n"
    )


def _on_fabric(table: Table) -> list[Op]:
    return [op for op in table.ops if op.autocast and emit_sharding.runs_on_fabric(op)]


def fabric_ops_h(table: Table) -> str:
    lines = "\n".join(f"{emit_sharding.head(op)};" for op in _on_fabric(table))
    return (
        HEADER
        + "// Operators over fabric tensors as a region of autocast calls them.\n#pragma once\n"
        + '#include "autograd/autocast.h"\n#include "sharding/ops.h"\n\nnamespace vt::sharding::autocast {\n\n'
        + f"{lines}\n\n}}  // namespace vt::sharding::autocast\n"
    )


def fabric_ops_cpp(table: Table) -> str:
    bodies = "\n".join(
        f"{emit_sharding.head(op)} {{\n{_body(op, 'sharding', 'FabricTensor', 'FabricOperand')}}}\n"
        for op in _on_fabric(table)
    )
    return (
        HEADER
        + '#include "sharding/autocast_ops.h"\n\nnamespace vt::sharding {\n\n'
        + "static DeviceType kind_of(const FabricTensor& t) { return t.group().device(0).type; }\n"
        + "static FabricTensor autocast_to(const FabricTensor& t, DType dtype) { return to_dtype(t, dtype); }\n\n"
        + f"namespace autocast {{\n\n{bodies}\n}}  // namespace autocast\n}}  // namespace vt::sharding\n"
    )
