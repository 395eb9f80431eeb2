"""C++ below autograd: declarations of all operators, and the pointwise ones in full."""

from __future__ import annotations

from .schema import Op
from .table import Table

HEADER = "// Generated from the operator table. Do not edit.\n"


def inplace_name(op: Op) -> str:
    return f"{op.name}_"


def has_inplace(op: Op) -> bool:
    return bool(op.entry.get("inplace"))


def invoke(op: Op, namespace: str, arguments: str) -> str:
    """The call of an operator that Python reaches: with casts, where autocast is on."""
    plain = f"{namespace}::{op.name}({arguments})"
    if not op.autocast:
        return plain
    return f"VT_UNLIKELY(autocasting()) ? {namespace}::autocast::{op.name}({arguments}) : {plain}"


def ops_h(table: Table) -> str:
    raw, public = [], []
    for op in table.ops:
        if op.kind != "composite":
            raw.append(f"{op.return_type(raw=True)} {op.name}({op.cpp_parameters()});")
            if op.kind == "pointwise":
                raw.append(f"Tensor& {op.name}_out(Tensor& out, {op.cpp_parameters()});")
            if has_inplace(op):
                raw.append(f"const Tensor& {inplace_name(op)}({op.cpp_parameters()});")
        public.append(f"{op.return_type(raw=False)} {op.name}({op.cpp_declaration()});")
        if has_inplace(op):
            public.append(f"const Tensor& {inplace_name(op)}({op.cpp_parameters()});")
    return (
        HEADER
        + "// Every operator twice: vt::raw::op computes, vt::op also records for backward where a gradient is wanted.\n"
        + "#pragma once\n#include <optional>\n#include <span>\n#include <string_view>\n#include <tuple>\n#include <vector>\n\n"
        + '#include "ops/operand.h"\n\nnamespace vt {\n\nnamespace raw {\n'
        + "\n".join(raw)
        + "\n}  // namespace raw\n\n"
        + "\n".join(public)
        + "\n\n}  // namespace vt\n"
    )


def _as_scalar(parameter_type: str, name: str, op: Op) -> str:
    if parameter_type == "str":
        return f'Scalar(parse_flag("{op.name}", {name}, "none", "tanh"))'
    return name if parameter_type.startswith("Scalar") else f"Scalar({name})"


def raw_pointwise_cpp(table: Table) -> str:
    out = [
        HEADER + "// Pointwise operators below autograd.\n",
        '#include "ops/ops.h"\n#include "ops/pointwise_call.h"\n\nnamespace vt::raw {\n',
    ]
    for op in table.pointwise:
        inputs = [p for p in op.parameters if p.differentiable]
        scalars = [_as_scalar(p.type, p.name, op) for p in op.parameters if not p.differentiable]
        params = f"Scalar params[] = {{{', '.join([*scalars, 'Scalar()'])}}};"
        given = ", ".join(p.name for p in inputs)
        dtype = {"promote": "kPromote", "float": "kFloat", "bool": "kBool"}[
            op.entry.get("dtype", "promote")
        ]
        bools = sum(
            1 << i for i, p in enumerate(inputs) if p.name in op.entry.get("bool_inputs", [])
        )
        over = {"all": "kAllTypes", "num": "kNumTypes", "int": "kIntTypes", "float": "kFloatTypes"}[
            op.entry["over"]
        ]
        rule = {"convert": "kConvert", "promote": "kPromote", "fit": "kFit"}[
            op.entry.get("numbers", "convert")
        ]
        info = (
            f'PointwiseInfo{{"{op.name}", PointwiseOp::{op.name}, ResultType::{dtype}, {over}, {bools}u, {len(scalars)}, '
            f"NumberRule::{rule}}}"
        )
        out.append(f"static constexpr PointwiseInfo k_{op.name} = {info};")
        body = f"  {params}\n  const Operand inputs[] = {{{given}}};\n"
        out.append(
            f"Tensor {op.name}({op.cpp_parameters()}) {{\n{body}"
            f"  return call_pointwise<{len(inputs)}>(k_{op.name}, inputs, params);\n}}"
        )
        out.append(
            f"Tensor& {op.name}_out(Tensor& out, {op.cpp_parameters()}) {{\n{body}"
            f"  call_pointwise_out<{len(inputs)}>(k_{op.name}, out, inputs, params);\n  return out;\n}}"
        )
        if has_inplace(op):
            out.append(
                f"const Tensor& {op.name}_({op.cpp_parameters()}) {{\n{body}"
                f"  call_pointwise_out<{len(inputs)}>(k_{op.name}, {inputs[0].name}, inputs, params);\n"
                f"  {inputs[0].name}.bump_version();\n  return {inputs[0].name};\n}}"
            )
    out.append("\n}  // namespace vt::raw\n")
    return "\n".join(out)
