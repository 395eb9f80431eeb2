"""Operators over fabric tensors: one function each, whose sharding rule the table names.

`sharding: along(dim)` calls `rules::along(inputs, dim)`, which says where the inputs have to be and where the results then
lie; the operator then runs on every rank. `{rule: view(shape), local: {shape: ...}}` also gives an argument another value for
the local calls (`plan` and `rank` can be named). `custom` is a hand-written function in sharding/ops/, `none` an operator
that cannot run over ranks. Pointwise operators have the rule `pointwise` unless they say more; all others run on replicated
tensors only.
"""

from __future__ import annotations

from .emit_ops import HEADER, has_inplace, invoke
from .python_names import COMPARISONS, REFLECTED, SLOTS, UNARY, prototype
from .schema import TYPES, Op, Parameter
from .table import Table

SHARDS = 3

_TYPES = {
    "Tensor": "const FabricTensor&",
    "Tensor!": "const FabricTensor&",
    "Tensor?": "const FabricTensor&",
    "Tensor[]": "const std::vector<FabricTensor>&",
    "Operand": "const FabricOperand&",
}
_RESULTS = {"Tensor": "FabricTensor", "Tensor[]": "std::vector<FabricTensor>"}


def _entry(op: Op) -> dict[str, object]:
    given = op.entry.get("sharding")
    return given if isinstance(given, dict) else {"rule": given}


def rule(op: Op) -> str:
    """The rule as the table writes it, or what stands for none."""
    given = _entry(op)["rule"]
    if given is not None:
        return str(given)
    return "pointwise" if op.kind == "pointwise" else "replicated"


def runs_on_fabric(op: Op) -> bool:
    """Is there a form for fabric tensors? Not of what takes no tensor, nor of what Python cannot call."""
    if not op.parameters or not op.parameters[0].is_tensor:
        return False
    if "sharding" in op.entry:
        return True
    return (bool(op.places) or op.kind == "pointwise") and not op.mutates


def inplace_runs(op: Op) -> bool:
    return runs_on_fabric(op) and has_inplace(op)


def parameters(op: Op) -> str:
    return ", ".join(f"{_TYPES.get(p.type, TYPES[p.type][1])} {p.name}" for p in op.parameters)


def returns(op: Op) -> str:
    results = op.visible
    if len(results) > 1:
        return "std::tuple<" + ", ".join(_RESULTS[r.type] for r in results) + ">"
    return _RESULTS[results[0].type]


def head(op: Op, suffix: str = "") -> str:
    return f"{returns(op) if not suffix else 'void'} {op.name}{suffix}({parameters(op)})"


def ops_h(table: Table) -> str:
    lines = []
    for op in filter(runs_on_fabric, table.ops):
        lines.append(("void " + head(op).split(" ", 1)[1] if op.mutates else head(op)) + ";")
        if inplace_runs(op):
            lines.append(head(op, "_") + ";")
    return (
        HEADER
        + "// Operators over fabric tensors.\n#pragma once\n#include <optional>\n#include <span>\n#include <string_view>\n#include <tuple>\n"
        + '#include <vector>\n\n#include "sharding/fabric_tensor.h"\n\nnamespace vt::sharding {\n\n'
        + "\n".join(lines)
        + "\n\n}  // namespace vt::sharding\n"
    )


def _inputs(op: Op) -> list[Parameter]:
    return [p for p in op.parameters if p.differentiable]


def _bring(op: Op) -> list[str]:
    """Statements that make `in`, what the rule looks at."""
    inputs = _inputs(op)
    if inputs[0].is_list:
        return [
            "std::vector<const FabricTensor*> all;",
            f"for (const FabricTensor& each : {inputs[0].name}) all.push_back(&each);",
            f'const Inputs in{{"{op.name}", all}};',
        ]
    names = ", ".join(f"{p.name}.tensor" if p.type == "Operand" else f"&{p.name}" for p in inputs)
    return [
        f"const FabricTensor* const all[] = {{{names}}};",
        f'const Inputs in{{"{op.name}", all}};',
    ]


def _body(op: Op, expression: str, call: str, *, inplace: bool) -> str:
    """The function: rule, placement of the inputs, local calls."""
    name, _, arguments = expression.partition("(")
    arguments = f"in, {arguments[:-1]}" if arguments else "in"
    local = _entry(op).get("local", {})
    assert isinstance(local, dict)
    lines = [
        *_bring(op),
        "Group& group = in.group();",
        f"[[maybe_unused]] const Plan plan = rules::{name}({arguments});",
    ]
    brought: dict[str, str] = {}
    if op.entry.get("factory"):
        brought["device"] = "std::optional<Device>()"  # that of the rank
    for i, p in enumerate(_inputs(op)):
        target = f"{p.name}_at"
        brought[p.name] = f"{target}[rank]"
        if p.is_list:
            lines.append(f"const BroughtList {target}(in, plan);")
        elif p.type == "Operand":
            lines.append(f"const BroughtOperand {target}(in, plan, {i}, {p.name});")
        elif inplace and i == 0:
            brought[p.name] = f"{p.name}.shards()[rank]"  # the leaves themselves, as they check
        else:
            lines.append(f"const Brought {target}(in, plan, {i});")
    passed = ", ".join(str(local.get(p.name, brought.get(p.name, p.name))) for p in op.parameters)
    if inplace:
        lines.append("check_in_place(in);")
        lines.append(f"for (int rank = 0; rank < group.size(); ++rank) {call}({passed});")
    else:
        result = f"run(group, plan.output, [&]([[maybe_unused]] int rank) {{ return {call}({passed}); }})"
        views = op.entry.get("view")
        lines.append(f"return viewed(in, plan, {result});" if views else f"return {result};")
    return "\n".join(f"  {line}" for line in lines)


def functions(op: Op) -> str:
    expression = {"none": "random"}.get(rule(op), rule(op))
    if expression == "custom":
        text = ""
    elif op.mutates:
        start = "void " + head(op).split(" ", 1)[1]
        text = f"{start} {{\n{_body(op, expression, f'vt::{op.name}', inplace=True)}\n}}\n"
    else:
        text = f"{head(op)} {{\n{_body(op, expression, f'vt::{op.name}', inplace=False)}\n}}\n"
    if inplace_runs(op):
        body = _body(op, "inplace", f"vt::{op.name}_", inplace=True)
        text += f"\n{head(op, '_')} {{\n{body}\n}}\n"
    return text


def functions_cpp(table: Table, index: int) -> str:
    ops = [op for i, op in enumerate(filter(runs_on_fabric, table.ops)) if i % SHARDS == index]
    return (
        HEADER
        + '#include "ops/ops.h"\n#include "sharding/ops.h"\n#include "sharding/rules.h"\n\nnamespace vt::sharding {\n\n'
        + "\n".join(filter(None, (functions(op) for op in ops)))
        + "\n}  // namespace vt::sharding\n"
    )


# --- the door to Python ---

_CONVERTERS = {
    "Tensor": "fabric_tensor",
    "Tensor!": "fabric_tensor",
    "Tensor?": "optional_fabric_tensor",
    "Tensor[]": "fabric_tensors",
    "Operand": "fabric_operand",
}


def _convert(op: Op, i: int) -> str:
    p = op.parameters[i]
    if op.entry.get("factory") and p.name == "device":
        return f"const std::optional<Device> v{i} = no_other_mesh(a, {i}, signature_{op.name});"
    converter = _CONVERTERS.get(p.type, p.converter)
    read = f"{converter}(a, {i}, signature_{op.name})"
    kind = _TYPES.get(p.type) or {"str": "std::string_view", "str?": "std::string_view"}.get(
        p.type, p.saved_type
    )
    kind = kind.removesuffix("&").removeprefix("const ")
    if p.type in ("Tensor", "Tensor!"):
        kind = "FabricTensor&"
    if p.optional and not p.type.endswith("?"):
        read = f"a.given({i}) ? {read} : {p.cpp_default}"
    return f"const {kind} v{i} = {read};"


def python_call(op: Op) -> str:
    """The caller of the sharded form, and the test that leads to it."""
    text = ""
    for suffix in ("", "_"):
        if suffix and not inplace_runs(op):
            continue
        names = ", ".join(f"v{i}" for i in range(len(op.parameters)))
        lines = [_convert(op, i) for i in range(len(op.parameters))]
        lines.append("ReleaseGil release(ReleaseGil::kAlways);")
        if suffix or op.mutates:
            lines += [
                f"sharding::{op.name}{suffix}({names});",
                "release.reacquire();",
                "return Py_NewRef(a.slot[0]);",
            ]
        else:
            called = invoke(op, "sharding", names)
            lines += [f"auto result = {called};", "release.reacquire();"]
            if op.entry.get("factory"):
                i = len(op.parameters)
                lines.append(
                    f"if (a.given({i}) && boolean(a, {i}, signature_{op.name})) result.set_requires_grad(true);"
                )
            if len(op.visible) > 1:
                fields = ", ".join(f'"{r.name}"' for r in op.visible)
                lines.append(
                    f'static PyTypeObject* const type = named_results("torch.return_types.{op.python_name}", {{{fields}}});'
                )
                lines.append("return wrap_named(type, std::move(result));")
            else:
                lines.append("return wrap(std::move(result));")
        body = "\n".join(f"    {line}" for line in lines)
        text += (
            f"static PyObject* fabric_call_{op.name}{suffix}(const Arguments& a) {{\n"
            f"  return guarded([&]() -> PyObject* {{\n    using namespace sharding;\n{body}\n  }});\n}}\n"
        )
    return text


def python_test(op: Op, suffix: str = "") -> str:
    """What a caller of the plain form tests first: fabric tensors go elsewhere."""
    if not (inplace_runs(op) if suffix else runs_on_fabric(op)):
        return ""
    test = "has_fabric_tensors" if op.parameters[0].is_list else "is_fabric_tensor"
    return f"  if (VT_UNLIKELY(!is_tensor(a.slot[0])) && {test}(a.slot[0])) return fabric_call_{op.name}{suffix}(a);\n"


def slots_cpp(table: Table) -> str:
    """Python's operators of fabric tensors: the same callers as the functions of the same name."""
    lines, prototypes, slots = [], set(), []
    for op in table.ops:
        kind = op.entry.get("operator")
        if kind is None or not runs_on_fabric(op):
            continue
        prototypes.add(prototype("function", op.python_name))
        if kind in UNARY:
            lines.append(
                f"PyObject* fabric_slot_{kind}(PyObject* x) {{ return function_{op.python_name}(nullptr, &x, 1, nullptr); }}"
            )
        else:
            ternary = ", PyObject*" if kind == "pow" else ""
            reflected = REFLECTED.get(kind) if kind not in COMPARISONS else None
            other = "Py_RETURN_NOTIMPLEMENTED;"
            if reflected is not None and reflected != "fill":
                prototypes.add(prototype("function", reflected))
                other = f"return function_{reflected}(nullptr, exchanged, 2, nullptr);"
            lines.append(
                f"PyObject* fabric_slot_{kind}(PyObject* x, PyObject* y{ternary}) {{\n"
                "  PyObject* const given[] = {x, y};\n  [[maybe_unused]] PyObject* const exchanged[] = {y, x};\n"
                f'  if (is_tensor(x)) return refuse_mixed("{op.python_name}", x, y);\n'
                "  if (!is_operand(x) || !is_operand(y)) Py_RETURN_NOTIMPLEMENTED;\n"
                f"  if (is_fabric_tensor(x)) return function_{op.python_name}(nullptr, given, 2, nullptr);\n  {other}\n}}"
            )
        if kind in SLOTS:
            slots.append(f"  slots.{SLOTS[kind]} = &fabric_slot_{kind};")
            if inplace_runs(op) and kind not in UNARY:
                prototypes.add(prototype("method", op.python_name, "_inplace"))
                ternary = ", PyObject*" if kind == "pow" else ""
                lines.append(
                    f"PyObject* fabric_slot_inplace_{kind}(PyObject* x, PyObject* y{ternary}) {{\n"
                    f"  return method_{op.python_name}_inplace(x, &y, 1, nullptr);\n}}"
                )
                slots.append(
                    f"  slots.{SLOTS[kind].replace('nb_', 'nb_inplace_')} = &fabric_slot_inplace_{kind};"
                )
    cases = "\n".join(
        f"    case Py_{kind.upper()}: return fabric_slot_{kind}(self, other);"
        for kind in COMPARISONS
    )
    return "\n".join(
        [
            HEADER,
            '#include "python/fabric_type.h"\n#include "python/tensor_type.h"\n\nnamespace vt::py {\n',
            *sorted(prototypes),
            "\nnamespace {\n",
            *lines,
            "\n}  // namespace",
            "\nvoid fill_fabric_number_slots(PyNumberMethods& slots) {",
            *slots,
            "}",
            f"\nPyObject* compare_fabric_tensors(PyObject* self, PyObject* other, int op) {{\n  switch (op) {{\n{cases}\n"
            "    default: Py_RETURN_NOTIMPLEMENTED;\n  }\n}\n\n}  // namespace vt::py\n",
        ]
    )
