// Calling Python from the backward engine.
#include "python/python_node.h"

#include "ops/ops.h"
#include "python/errors.h"
#include "python/gil.h"
#include "python/tensor_type.h"

namespace vt::py {

SharedObject::SharedObject(PyObject* borrowed)
    : object_(Py_NewRef(borrowed), [](PyObject* object) {
        if (!Py_IsInitialized()) return;  // the process is ending
        HoldGil gil;
        Py_DECREF(object);
      }) {}

GradHook make_hook(PyObject* callable) {
  VT_CHECK(PyCallable_Check(callable), kType, "register_hook: expected a callable, not ",
           Py_TYPE(callable)->tp_name);
  return [held = SharedObject(callable)](const Tensor& grad) -> Tensor {
    HoldGil gil;
    const Owned argument(wrap(grad));
    const Owned result(checked(PyObject_CallOneArg(held.get(), argument.get())));
    if (result.get() == Py_None) return Tensor();
    VT_CHECK(is_tensor(result.get()), kType, "hook: must return a Tensor or None, not ",
             Py_TYPE(result.get())->tp_name);
    return unwrap(result.get());
  };
}

PythonNode::PythonNode(std::string name, PyObject* backward, const std::vector<Tensor>& inputs,
                       const std::vector<Tensor>& outputs, const std::vector<Tensor>& saved)
    : Node(outputs[0].device(), static_cast<int>(outputs.size()), static_cast<int>(inputs.size())),
      name_(std::move(name)),
      backward_(backward) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    inputs_.emplace_back(inputs[i]);
    if (inputs[i].defined()) set_edge(static_cast<int>(i), inputs[i]);
  }
  for (const Tensor& output : outputs) outputs_.emplace_back(output);
  for (const Tensor& t : saved) {
    Kept& kept = saved_.emplace_back(Kept{{}, -1});
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (t.defined() && outputs[i].same(t)) kept.output = static_cast<int>(i);
    }
    if (kept.output >= 0) kept.tensor.save_output(t);
    else kept.tensor.save_input(t);
  }
}

void PythonNode::apply(std::span<Tensor> grads, std::span<Tensor> out) {
  if (released_) fail_graph_freed(name());
  std::vector<Tensor> saved, given(grads.begin(), grads.end());
  for (const Kept& kept : saved_)
    saved.push_back(kept.tensor.unpack(this, std::max(kept.output, 0)));
  for (size_t i = 0; i < given.size(); ++i) {
    const TensorMeta& meta = outputs_[i];
    if (!given[i].defined()) given[i] = zeros(meta.sizes, meta.dtype, meta.device);
  }
  HoldGil gil;
  const Owned saved_tuple(wrap(saved)), grad_tuple(wrap(given));
  const Owned result(checked(
      PyObject_CallFunctionObjArgs(backward_.get(), saved_tuple.get(), grad_tuple.get(), nullptr)));
  const Owned list(PySequence_Fast(result.get(), ""));
  if (!list) PyErr_Clear();
  VT_CHECK(list && PySequence_Fast_GET_SIZE(list.get()) == static_cast<Py_ssize_t>(out.size()),
           kRuntime, name_, ": backward must return ", out.size(),
           " gradients, one for each input of forward");
  for (size_t i = 0; i < out.size(); ++i) {
    PyObject* grad = PySequence_Fast_GET_ITEM(list.get(), static_cast<Py_ssize_t>(i));
    if (grad == Py_None || !wants(static_cast<int>(i))) continue;
    VT_CHECK(is_tensor(grad), kType, name_, ": gradient ", i, " must be a Tensor or None, not ",
             Py_TYPE(grad)->tp_name);
    VT_CHECK(unwrap(grad).sizes() == inputs_[i].sizes, kRuntime, name_, ": gradient ", i, " is ",
             unwrap(grad), ", its input has shape ", inputs_[i].sizes);
    out[i] = unwrap(grad);
  }
}

void PythonNode::release_saved() {
  for (Kept& kept : saved_) kept.tensor.release();
  released_ = true;
}

}  // namespace vt::py
