"""The Python face of the operators: argument parsing, number slots, and where each name is exposed."""

from __future__ import annotations

import json

from . import emit_sharding
from .emit_ops import HEADER, has_inplace, invoke
from .python_names import COMPARISONS, REFLECTED, SLOTS, UNARY, prototype
from .schema import Op, Parameter
from .table import Table

SHARDS = 3


def groups(table: Table) -> dict[str, list[Op]]:
    """Operators by Python name; several are overloads of one name."""
    result: dict[str, list[Op]] = {}
    for op in table.ops:
        result.setdefault(op.python_name, []).append(op)
    return result


def python_parameters(op: Op) -> list[Parameter]:
    """The operator's parameters, and for one that makes new tensors whether they require a gradient."""
    extra = [Parameter("bool", "requires_grad", "False", True)] if op.entry.get("factory") else []
    return [*op.parameters, *extra]


def python_signature(op: Op) -> str:
    """The signature as an error message shows it."""
    text = op.text.replace(op.name + "(", op.python_name + "(", 1)
    if op.entry.get("factory"):
        text = text.replace(") ->", ", bool requires_grad=False) ->")
    for ours, theirs in (
        ("Operand", "Tensor|Number"),
        ("Scalar", "Number"),
        ("Tensor!", "Tensor"),
        ("size[]", "int[]"),
        ("hidden Tensor", "Tensor"),
    ):
        text = text.replace(ours, theirs)
    if len(op.visible) != len(op.results):
        text = text.split("->")[0] + "-> " + ", ".join(r.type for r in op.visible)
    return text


def signature(op: Op) -> str:
    rows = ", ".join(
        f"{{\"{p.name}\", '{p.code}', {str(p.optional).lower()}, {str(p.keyword_only).lower()}}}"
        for p in python_parameters(op)
    )
    positional = len([p for p in op.parameters if not p.keyword_only])
    text = json.dumps(python_signature(op))
    return (
        f"static const Parameter parameters_{op.name}[] = {{{rows}}};\n"
        f"static const Signature signature_{op.name} = {{{text}, parameters_{op.name}, {len(python_parameters(op))}, {positional}}};"
    )


def _argument(op: Op, i: int) -> str:
    p = op.parameters[i]
    read = f"{p.converter}(a, {i}, signature_{op.name})"
    if p.optional and not p.type.endswith("?"):
        return f"a.given({i}) ? {read} : {p.cpp_default}"
    return read


def call(op: Op) -> str:
    """Converts the bound arguments and calls the operator."""
    lines = []
    names = []
    for i, p in enumerate(op.parameters):
        kind = (
            p.saved_type
            if p.type not in ("Operand", "str", "str?")
            else {"Operand": "const Operand"}.get(p.type, "std::string_view")
        )
        if p.type in ("Tensor", "Tensor!") and not (p.default is not None):
            kind = "const Tensor&"
        elif kind == "Dims" or kind.startswith("std::"):
            kind = f"const {kind}"
        argument = _argument(op, i)
        if p.name == "device" and op.entry.get("factory"):
            lines.append(f"    const fabric::Mesh* const mesh = mesh_of(a.slot[{i}]);")
            argument = f"mesh ? std::optional(mesh->device(0)) : {argument}"
        lines.append(f"    {kind} v{i} = {argument};")
        names.append(f"v{i}")
    work = [f"v{i}" for i, p in enumerate(op.parameters) if p.type in ("Tensor", "Tensor!")][:2]
    if work:
        lines.append(f"    ReleaseGil release({', '.join(work)});")
    called = invoke(op, "vt", ", ".join(names))
    if op.return_type(raw=False) == "Tensor" and op.mutates:
        target = next(i for i, p in enumerate(op.parameters) if p.type == "Tensor!")
        lines.append(f"    {called};")
        if work:
            lines.append("    release.reacquire();")
        lines.append(f"    return wrap(v{target});")
    else:
        lines.append(f"    auto result = {called};")
        if work:
            lines.append("    release.reacquire();")
        if op.entry.get("factory"):
            i = len(op.parameters)
            lines.append(
                f"    if (a.given({i}) && boolean(a, {i}, signature_{op.name})) set_requires_grad(result, true);"
            )
            lines.append("    if (mesh) return wrap_everywhere(result, *mesh);")
        if len(op.visible) > 1:
            names = ", ".join(f'"{r.name}"' for r in op.visible)
            lines.append(
                f'    static PyTypeObject* const type = named_results("torch.return_types.{op.python_name}", {{{names}}});'
            )
            lines.append("    return wrap_named(type, std::move(result));")
        else:
            lines.append("    return wrap(std::move(result));")
    body = "\n".join(lines)
    fabric = emit_sharding.python_call(op) if emit_sharding.runs_on_fabric(op) else ""
    text = f"{fabric}static PyObject* call_{op.name}(const Arguments& a) {{\n{emit_sharding.python_test(op)}  return guarded([&]() -> PyObject* {{\n{body}\n  }});\n}}"
    if has_inplace(op):
        text += (
            f"\nstatic PyObject* call_{op.name}_inplace(const Arguments& a) {{\n{emit_sharding.python_test(op, '_')}  return guarded([&]() -> PyObject* {{\n"
            + "\n".join(lines[: len(op.parameters) + 1])
            + f"\n    vt::{op.name}_({', '.join(names)});\n    release.reacquire();\n    return wrap(v0);\n  }});\n}}"
        )
    if op.kind == "pointwise" and op.places:
        text += (
            f"\nstatic PyObject* call_{op.name}_out(const Arguments& a, PyObject* target) {{\n"
            "  return guarded([&]() -> PyObject* {\n"
            + "\n".join(lines[: len(op.parameters)])
            + f'\n    Tensor out = out_tensor(target, "{op.name}");\n    vt::raw::{op.name}_out(out, {", ".join(names)});\n'
            + "    out.bump_version();\n    return wrap(out);\n  });\n}"
        )
    return text


def entry_points(name: str, ops: list[Op]) -> str:
    """One function for the module and one for the type."""
    out = []
    for suffix, kind in (("", "call"), ("_inplace", "inplace")):
        chosen = ops if kind == "call" else [op for op in ops if has_inplace(op)]
        if not chosen:
            continue
        for place, self_argument in (("function", "nullptr"), ("method", "self")):
            if place == "method" and not any("method" in op.places for op in chosen):
                continue
            if place == "function" and kind == "inplace":
                continue
            body = _dispatch(name, chosen, self_argument, suffix)
            out.append(
                f"PyObject* {place}_{name}{suffix}(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {{\n"
                f"  {'(void)self;' if place == 'function' else ''}\n{body}}}"
            )
    return "\n".join(out)


def _dispatch(name: str, ops: list[Op], self_argument: str, suffix: str) -> str:
    if len(ops) == 1:
        op = ops[0]
        with_out = op.kind == "pointwise" and op.places and not suffix
        if with_out:
            return (
                f"  Arguments a;\n  PyObject* out = nullptr;\n"
                f"  if (!bind_with_out(signature_{op.name}, {self_argument}, args, count, names, a, &out)) return nullptr;\n"
                f"  return out ? call_{op.name}_out(a, out) : call_{op.name}(a);\n"
            )
        return (
            f"  Arguments a;\n  if (!bind(signature_{op.name}, {self_argument}, args, count, names, a)) return nullptr;\n"
            f"  return call_{op.name}{suffix}(a);\n"
        )
    tries = "".join(
        f"  if (Arguments a; matches(signature_{op.name}, {self_argument}, args, count, names, a)) return call_{op.name}{suffix}(a);\n"
        for op in ops
    )
    listed = ", ".join(f"&signature_{op.name}" for op in ops)
    return (
        f"{tries}  static const Signature* const all[] = {{{listed}}};\n"
        f'  return no_match("{name}", all, {self_argument}, args, count, names);\n'
    )


def number_slot(op: Op, table: Table) -> str:
    """The CPython slot function of an operator."""
    kind = op.entry["operator"]
    extra = "".join(f", {p.cpp_default}" for p in op.parameters[2:])
    if kind in UNARY:
        return (
            f"PyObject* slot_{kind}(PyObject* x) {{\n  return guarded([&]() -> PyObject* {{\n    const Tensor& t = unwrap(x);\n"
            f"    ReleaseGil release(t);\n    auto result = {invoke(op, 'vt', 't')};\n    release.reacquire();\n"
            "    return wrap(std::move(result));\n  });\n}"
        )
    ternary = ", PyObject*" if kind == "pow" else ""
    takes_number = op.parameters[1].type == "Operand"
    lines = [
        f"PyObject* slot_{kind}(PyObject* x, PyObject* y{ternary}) {{",
        "  return guarded([&]() -> PyObject* {",
        "    if (VT_LIKELY(is_tensor(x))) {",
        "      const Tensor& left = unwrap(x);",
        "      if (is_tensor(y)) {",
        "        const Tensor& right = unwrap(y);",
        "        ReleaseGil release(left, right);",
        f"        auto result = {invoke(op, 'vt', f'left, right{extra}')};",
        "        release.reacquire();",
        "        return wrap(std::move(result));",
        "      }",
    ]
    if takes_number:
        lines += [
            "      Scalar number;",
            "      if (!number_from(y, number)) Py_RETURN_NOTIMPLEMENTED;",
            "      ReleaseGil release(left);",
            f"      auto result = {invoke(op, 'vt', f'left, number{extra}')};",
            "      release.reacquire();",
            "      return wrap(std::move(result));",
        ]
    else:
        lines.append("      Py_RETURN_NOTIMPLEMENTED;")
    lines.append("    }")
    reflected = REFLECTED.get(kind)
    if kind in COMPARISONS or reflected is None:
        lines.append("    Py_RETURN_NOTIMPLEMENTED;")
    else:
        other = next((o for o in table.ops if o.name == reflected), op)
        expression = {
            "rsub": invoke(other, "vt", "right, number, Scalar(1)"),
            "rdiv": invoke(other, "vt", "right, number"),
            "rpow": invoke(other, "vt", "right, number"),
            "fill": invoke(op, "vt", f"vt::full_like(right, number, {{}}, {{}}), right{extra}"),
        }.get(reflected, invoke(other, "vt", f"right, number{extra}"))
        lines += [
            "    const Tensor& right = unwrap(y);",
            "    Scalar number;",
            "    if (!number_from(x, number)) Py_RETURN_NOTIMPLEMENTED;",
            "    ReleaseGil release(right);",
            f"    auto result = {expression};",
            "    release.reacquire();",
            "    return wrap(std::move(result));",
        ]
    lines += ["  });", "}"]
    text = "\n".join(lines)
    if has_inplace(op):
        text += f"""
PyObject* slot_inplace_{kind}(PyObject* x, PyObject* y{ternary}) {{
  return guarded([&]() -> PyObject* {{
    const Tensor& left = unwrap(x);
    if (is_tensor(y)) {{
      const Tensor& right = unwrap(y);
      ReleaseGil release(left, right);
      vt::{op.name}_(left, right{extra});
      release.reacquire();
    }} else {{
      Scalar number;
      if (!number_from(y, number)) Py_RETURN_NOTIMPLEMENTED;
      ReleaseGil release(left);
      vt::{op.name}_(left, number{extra});
      release.reacquire();
    }}
    Py_INCREF(x);
    return x;
  }});
}}"""
    return text


def generated_h(table: Table) -> str:
    slots = []
    for op in table.ops:
        kind = op.entry.get("operator")
        if kind is None:
            continue
        ternary = ", PyObject*" if kind == "pow" else ""
        slots.append(
            f"PyObject* slot_{kind}(PyObject*{', PyObject*' if kind not in UNARY else ''}{ternary});"
        )
        if has_inplace(op):
            slots.append(
                f"PyObject* slot_inplace_{kind}(PyObject*, PyObject*{ternary});"
                if kind not in UNARY
                else ""
            )
    return (
        HEADER
        + "// What the generated parsers offer to the tensor type and the module.\n#pragma once\n#include <Python.h>\n\n"
        + "namespace vt::py {\n\n"
        + "extern PyMethodDef generated_tensor_methods[];  // ends with a null name\n"
        + "extern PyMethodDef generated_functions[];       // all operators, for the module `ops`\n"
        + 'struct Exposed {\n  const char* place;  // "torch", "nn.functional", "method"\n  const char* name;\n};\n'
        + "extern const Exposed generated_exposed[];       // ends with a null name\n"
        + "void fill_number_slots(PyNumberMethods& slots);\n\n"
        + "\n".join(filter(None, slots))
        + "\n\n}  // namespace vt::py\n"
    )


def methods_cpp(table: Table, index: int) -> str:
    chosen = [(n, ops) for i, (n, ops) in enumerate(groups(table).items()) if i % SHARDS == index]
    parts = [
        HEADER,
        '#include "autograd/autocast_ops.h"\n#include "autograd/variable.h"\n#include "ops/ops.h"\n#include "python/fabric_type.h"\n#include "python/generated.h"\n#include "python/named_results.h"\n#include "python/parse.h"\n#include "sharding/autocast_ops.h"\n#include "sharding/ops.h"\n\nnamespace vt::py {\n',
    ]
    for name, ops in chosen:
        for op in ops:
            parts += [signature(op), call(op)]
        parts.append(entry_points(name, ops))
        parts += [number_slot(op, table) for op in ops if "operator" in op.entry]
    parts.append("\n}  // namespace vt::py\n")
    return "\n".join(parts)


def index_cpp(table: Table) -> str:
    """The lists that the type and the module are made from."""
    prototypes, methods, functions, exposed, slots = [], [], [], [], []
    flags = "METH_FASTCALL | METH_KEYWORDS"

    def row(python: str, c: str, doc: str) -> str:
        return f'    {{"{python}", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&{c})), {flags}, {doc}}},'

    for name, ops in groups(table).items():
        doc = json.dumps(
            "\n".join(f"{python_signature(op)}\n\n{op.entry.get('doc', '')}" for op in ops)
        )
        prototypes.append(prototype("function", name))
        functions.append(row(name, f"function_{name}", doc))
        if any("method" in op.places for op in ops):
            prototypes.append(prototype("method", name))
            methods.append(row(name, f"method_{name}", doc))
        if any(has_inplace(op) and "method" in op.places for op in ops):
            prototypes.append(prototype("method", name, "_inplace"))
            methods.append(row(f"{name}_", f"method_{name}_inplace", doc))
        for place in sorted({p for op in ops for p in op.places}):
            exposed.append(f'    {{"{place}", "{name}"}},')
        for op in ops:
            kind = op.entry.get("operator")
            if kind in SLOTS:
                slots.append(f"  slots.{SLOTS[kind]} = &slot_{kind};")
                if has_inplace(op) and kind not in UNARY:
                    slots.append(
                        f"  slots.{SLOTS[kind].replace('nb_', 'nb_inplace_')} = &slot_inplace_{kind};"
                    )
    return "\n".join(
        [
            HEADER,
            '#include "python/generated.h"\n\nnamespace vt::py {\n',
            *prototypes,
            "\nPyMethodDef generated_tensor_methods[] = {",
            *methods,
            "    {nullptr, nullptr, 0, nullptr}};",
            "\nPyMethodDef generated_functions[] = {",
            *functions,
            "    {nullptr, nullptr, 0, nullptr}};",
            "\nconst Exposed generated_exposed[] = {",
            *exposed,
            "    {nullptr, nullptr}};",
            "\nvoid fill_number_slots(PyNumberMethods& slots) {",
            *slots,
            "}\n\n}  // namespace vt::py\n",
        ]
    )
