"""Public operators and their backward nodes.

A formula is a C++ expression over public operators. In it ``grad`` is the gradient of the first result, ``grad1`` that of
the second (a formula that names it must cope with either being undefined), ``result`` and ``resultN`` are results, a parameter's name is its value, ``name.meta`` (or ``.sizes``) its shape and type alone, and
``needs`` tells a formula with several targets which of them are wanted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .emit_ops import HEADER, has_inplace
from .schema import Op, Parameter
from .table import Table

SHARDS = 3


@dataclass
class Saved:
    """What one node keeps: parameters by value, by shape, and results."""

    values: list[Parameter]
    metas: list[Parameter]
    results: list[int]


def _uses(formula: str, name: str) -> bool:
    return re.search(rf"(?<![.\w]){name}\b(?!\s*\.(?:meta|metas|sizes)\b)", formula) is not None


def _uses_meta(formula: str, name: str) -> bool:
    return re.search(rf"\b{name}\.(?:meta|metas|sizes)\b", formula) is not None


def saved_by(op: Op) -> Saved:
    assert op.gradients is not None
    text = " ; ".join(op.gradients.values())
    values = [p for p in op.parameters if _uses(text, p.name)]
    metas = [p for p in op.parameters if p.differentiable and _uses_meta(text, p.name)]
    results = [
        i for i in range(len(op.results)) if _uses(text, "result" if i == 0 else f"result{i}")
    ]
    return Saved(values, metas, results)


def _rewrite(formula: str) -> str:
    formula = re.sub(r"\b(\w+)\.metas\b", r"\1_metas_", formula)
    formula = re.sub(r"\b(\w+)\.meta\b", r"\1_meta_", formula)
    return re.sub(r"\b(\w+)\.sizes\b(?!\()", r"\1_meta_.sizes", formula)


def class_name(op: Op) -> str:
    return "".join(part.capitalize() for part in op.name.strip("_").split("_")) + "Backward"


def _two_grads(op: Op) -> bool:
    """Does the second result carry a gradient as well?"""
    assert op.gradients is not None
    return any(_uses(formula, "grad1") for formula in op.gradients.values())


def _inputs(op: Op) -> list[Parameter]:
    return [p for p in op.parameters if p.differentiable]


def _field(p: Parameter) -> str:
    if p.is_list:
        return f"std::vector<SavedTensor> {p.name}_;"
    if p.is_tensor:
        return f"SavedTensor {p.name}_;"
    if p.type == "Operand":
        return f"SavedOperand {p.name}_;"
    return f"{p.saved_type} {p.name}_;"


def node(op: Op) -> str:
    """The class of an operator's backward node."""
    assert op.gradients is not None
    saved = saved_by(op)
    inputs = _inputs(op)
    lists = any(p.is_list for p in inputs)
    fields = [_field(p) for p in saved.values]
    fields += [
        f"std::vector<TensorMeta> {p.name}_metas_;" if p.is_list else f"TensorMeta {p.name}_meta_;"
        for p in saved.metas
    ]
    fields += [f"SavedTensor result{i}_;" for i in saved.results]

    unpack = []
    for p in saved.values:
        if p.is_list:
            unpack.append(
                f"    std::vector<Tensor> {p.name};\n    for (const SavedTensor& s : {p.name}_) {p.name}.push_back(s.unpack(this));"
            )
        elif p.is_tensor or p.type == "Operand":
            unpack.append(f"    const auto {p.name} = {p.name}_.unpack(this);")
        else:
            unpack.append(f"    const auto& {p.name} = {p.name}_;")
    for i in saved.results:
        unpack.append(
            f"    const Tensor {'result' if i == 0 else f'result{i}'} = result{i}_.unpack(this, {i});"
        )

    compute = []
    positions = {p.name: i for i, p in enumerate(inputs)}
    for names, formula in op.gradients.items():
        targets = [n.strip() for n in names.split(",")]
        code = _rewrite(formula)
        if lists:
            compute.append(
                f"    {{\n      auto parts = {code};\n"
                "      for (size_t i = 0; i < parts.size(); ++i) out[i] = std::move(parts[i]);\n    }"
            )
        elif len(targets) == 1:
            i = positions[targets[0]]
            compute.append(f"    if (wants({i})) out[{i}] = {code};")
        else:
            wanted = ", ".join(f"wants({positions[t]})" for t in targets)
            moves = "\n".join(
                f"      out[{positions[t]}] = std::move(parts[{k}]);" for k, t in enumerate(targets)
            )
            compute.append(
                f"    {{\n      const std::array<bool, {len(targets)}> needs{{{wanted}}};\n"
                + ("      (void)needs;\n" if not _uses(formula, "needs") else "")
                + f"      auto parts = {code};\n{moves}\n    }}"
            )
    release = [
        f"    {p.name}_.release();"
        for p in saved.values
        if (p.is_tensor and not p.is_list) or p.type == "Operand"
    ]
    release += [
        f"    for (SavedTensor& s : {p.name}_) s.release();" for p in saved.values if p.is_list
    ]
    release += [f"    result{i}_.release();" for i in saved.results]
    edges = "int edges" if lists else ""
    incoming = "const Tensor& grad = grads[0];\n    if (!grad.defined()) return;"
    if _two_grads(op):
        incoming = "const Tensor &grad = grads[0], &grad1 = grads[1];"
    edge_count = "edges" if lists else str(len(inputs))
    return f"""class {class_name(op)} final : public Node, public Pooled<{class_name(op)}> {{
 public:
  explicit {class_name(op)}(Device device{", " if edges else ""}{edges}) : Node(device, {len(op.results)}, {edge_count}) {{}}
  const char* name() const override {{ return "{class_name(op)}"; }}
  void release_saved() override {{
{chr(10).join(release)}
  }}
  void apply(std::span<Tensor> grads, std::span<Tensor> out) override {{
    {incoming}
{chr(10).join(unpack)}
{chr(10).join(compute)}
  }}

  {chr(10).join("  " + f for f in fields).strip()}
}};
"""


def _only_if(op: Op, name: str) -> str:
    """The test in front of saving `name`: is a gradient wanted whose formula reads it? Empty where that is certain."""
    assert op.gradients is not None
    positions = {p.name: i for i, p in enumerate(_inputs(op))}
    readers = [names for names, formula in op.gradients.items() if _uses(formula, name)]
    if len(op.gradients) == 1 or any(
        "," in names or _inputs(op)[positions[names]].is_list for names in readers
    ):
        return ""
    return "if (" + " || ".join(f"node->wants({positions[names]})" for names in readers) + ") "


def _save(op: Op, *, results: str, inplace: bool = False) -> list[str]:
    saved = saved_by(op)
    lines = []
    for p in saved.values:
        if p.is_list:
            lines.append(
                f"for (const Tensor& t : {p.name}) node->{p.name}_.emplace_back().save_input(t);"
            )
        elif p.differentiable:
            # An in-place operation is about to overwrite its first input: backward reads a copy.
            value = f"clone({p.name})" if inplace and p is _inputs(op)[0] else p.name
            lines.append(f"{_only_if(op, p.name)}node->{p.name}_.save_input({value});")
        else:
            lines.append(f"node->{p.name}_ = {p.saved_type}({p.name});")
    for p in saved.metas:
        if p.is_list:
            lines.append(f"for (const Tensor& t : {p.name}) node->{p.name}_metas_.emplace_back(t);")
        elif p.type == "Operand":
            lines.append(
                f"if ({p.name}.is_tensor()) node->{p.name}_meta_ = TensorMeta(*{p.name}.tensor);"
            )
        else:
            lines.append(f"node->{p.name}_meta_ = TensorMeta({p.name});")
    for i in saved.results:
        test = _only_if(op, "result" if i == 0 else f"result{i}")
        lines.append(f"{test}node->result{i}_.save_output({results.format(i=i)});")
    return lines


def _wanted(op: Op, names: set[str]) -> str:
    tests = []
    for p in _inputs(op):
        if p.name not in names:
            continue
        if p.is_list:
            tests.append(f"any_requires_grad({p.name})")
        elif p.type == "Operand":
            tests.append(f"({p.name}.is_tensor() && {p.name}.tensor->requires_grad())")
        else:
            tests.append(f"{p.name}.requires_grad()")
    return " || ".join(tests)


def _edges(op: Op) -> list[str]:
    """Statements that connect the node; an input without a formula gets no edge."""
    assert op.gradients is not None
    names = {n.strip() for key in op.gradients for n in key.split(",")}
    lines = []
    for i, p in enumerate(_inputs(op)):
        if p.name not in names:
            continue
        if p.is_list:
            lines.append(
                f"for (size_t i = 0; i < {p.name}.size(); ++i) node->set_edge(static_cast<int>(i), {p.name}[i]);"
            )
        elif p.type == "Operand":
            lines.append(f"if ({p.name}.is_tensor()) node->set_edge({i}, *{p.name}.tensor);")
        elif p.type == "Tensor?":
            lines.append(f"if ({p.name}.defined()) node->set_edge({i}, {p.name});")
        else:
            lines.append(f"node->set_edge({i}, {p.name});")
    return lines


def _all_inputs(op: Op) -> set[str]:
    return {p.name for p in _inputs(op)}


def _new_node(op: Op) -> str:
    inputs = _inputs(op)
    device = f"{inputs[0].name}[0].device()" if inputs[0].is_list else f"{inputs[0].name}.device()"
    extra = f", static_cast<int>({inputs[0].name}.size())" if inputs[0].is_list else ""
    return f"auto* node = new {class_name(op)}({device}{extra});\n  Ref<Node> owner = Ref<Node>::adopt(node);"


def _checked(op: Op, name: str, head: str, body: str) -> str:
    """A function that tells the profiler of the call, and a failed launch of what it was given."""
    shown = [p.name for p in op.parameters if p.is_tensor or p.type == "Operand"]
    given = ", ".join([f'"{name}"', *shown])
    return (
        f"{head} try {{\n  const OpScope scope({given});\n{body}}} catch (const LaunchError& error) {{\n"
        f"  launch_failed(error, {given});\n}}\n"
    )


def public(op: Op) -> str:
    """The function vt::op, and vt::op_ where it has an in-place form."""
    call = f"raw::{op.name}({op.cpp_arguments()})"
    first = "std::get<0>(results)" if len(op.results) > 1 else "result"
    visible = len(op.visible)
    if len(op.results) == 1:
        finish = "return result;"
    elif visible == 1:
        finish = "return std::move(std::get<0>(results));"
    elif visible == len(op.results):
        finish = "return results;"
    else:
        kept = ", ".join(f"std::move(std::get<{i}>(results))" for i in range(visible))
        finish = f"return {{{kept}}};"
    plain = f"auto {'results' if len(op.results) > 1 else 'result'} = {call};"
    head = f"{op.return_type(raw=False)} {op.name}({op.cpp_parameters()})"
    view = (
        f"  if (grad_enabled()) set_view_base(result, {op.parameters[0].name});\n"
        if op.entry.get("view")
        else ""
    )
    if op.mutates:
        return mutating(op)
    if not op.differentiable:
        return _checked(op, op.name, head, f"  {plain}\n  {finish}\n")
    wanted = _wanted(op, _all_inputs(op))
    if op.gradients is None:
        return _checked(
            op,
            op.name,
            head,
            f'  if (VT_UNLIKELY(grad_enabled() && ({wanted}))) fail_no_derivative("{op.name}");\n'
            f"  {plain}\n  {finish}\n",
        )
    # A conversion that changes nothing gives the tensor itself, whose history must stay.
    first_input = op.parameters[0]
    returns_input = op.kind == "raw" and len(op.results) == 1 and first_input.type == "Tensor"
    unrecorded = f"!grad_enabled() || !({wanted})" + (
        f" || result.same({first_input.name})" if returns_input else ""
    )
    results = "std::get<{i}>(results)" if len(op.results) > 1 else "result"
    missing = _all_inputs(op) - {n.strip() for key in op.gradients for n in key.split(",")}
    missing = {m for m in missing if not m.startswith(("index", "target", "mask", "condition"))}
    guard = (
        f'  if (VT_UNLIKELY({_wanted(op, missing)})) fail_no_derivative("{op.name}");\n'
        if missing
        else ""
    )
    body = "\n  ".join([_new_node(op), *_edges(op), *_save(op, results=results)])
    if _two_grads(op):
        body += "\n  set_history(std::get<1>(results), owner, 1);"
    instead = "".join(
        f"  if (VT_UNLIKELY({test})) return {other};\n"
        for test, other in op.entry.get("instead", {}).items()
    )
    function = f"""{instead}  {plain}
{view}  if (VT_LIKELY({unrecorded})) {finish}
{guard}  {body}
  set_history({first}, std::move(owner), 0);
  {finish}
"""
    return _checked(op, op.name, head, function) + (inplace(op) if has_inplace(op) else "")


def _record_inplace(op: Op, call: str, name: str, returned: str) -> str:
    target = _inputs(op)[0].name
    wanted = _wanted(op, _all_inputs(op))
    before = [s for s in _save(op, results=target, inplace=True) if "save_output" not in s]
    after = [s for s in _save(op, results=target) if "save_output" in s]
    body = "\n  ".join([_new_node(op), *_edges(op), *before])
    finish = "\n  ".join(after)
    function = f"""  if (VT_LIKELY(!grad_enabled() || !({wanted}))) {{
    {call};
    return {target};
  }}
  check_inplace("{op.name}", {target});
  {body}
  {call};
  {finish}
  rebase_history({target}, std::move(owner));
  return {target};
"""
    return _checked(op, name, returned, function)


def inplace(op: Op) -> str:
    return _record_inplace(
        op,
        f"raw::{op.name}_({op.cpp_arguments()})",
        f"{op.name}_",
        f"const Tensor& {op.name}_({op.cpp_parameters()})",
    )


def mutating(op: Op) -> str:
    """An operator whose name already ends in an underscore."""
    head = f"Tensor {op.name}({op.cpp_parameters()})"
    call = f"raw::{op.name}({op.cpp_arguments()})"
    if op.gradients is None:
        return _checked(op, op.name, head, f"  return {call};\n")
    return _record_inplace(op, call, op.name, head)


def functions_cpp(table: Table, index: int) -> str:
    ops = [
        op
        for i, op in enumerate(o for o in table.ops if o.kind != "composite")
        if i % SHARDS == index
    ]
    nodes = [node(op) for op in ops if op.gradients is not None and op.differentiable]
    return (
        HEADER
        + "#include <array>\n#include <cmath>\n\n"
        + '#include "autograd/formulas.h"\n#include "autograd/saved.h"\n#include "autograd/variable.h"\n#include "ops/launch_failed.h"\n#include "ops/op_scope.h"\n#include "ops/ops.h"\n\n'
        + "namespace vt {\nnamespace {\n\n"
        + "\n".join(nodes)
        + "\n}  // namespace\n\n"
        + "\n".join(public(op) for op in ops)
        + "\n}  // namespace vt\n"
    )
