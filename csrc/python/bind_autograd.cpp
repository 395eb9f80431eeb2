// Autograd functions of the module and methods of the tensor type.
#include "python/bind_autograd.h"

#include "autograd/engine.h"
#include "autograd/variable.h"
#include "ops/ops.h"
#include "python/conversion.h"
#include "python/parse.h"
#include "python/pybind_tensor.h"
#include "python/python_node.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

struct NodeHandle {
  Ref<Node> node;
  bool operator==(const NodeHandle& other) const { return node == other.node; }
};

struct HookHandle {
  Tensor tensor;
  int id;
  bool removed = false;
  void remove() {
    if (!removed) remove_hook(tensor, id);
    removed = true;
  }
};

pyb::object node_object(Ref<Node> node) {
  return node ? pyb::cast(NodeHandle{std::move(node)}) : pyb::none();
}

pyb::tuple next_functions(const NodeHandle& self) {
  pyb::tuple result(self.node->edge_count());
  for (int i = 0; i < self.node->edge_count(); ++i) {
    const Edge& edge = self.node->edge(i);
    result[static_cast<size_t>(i)] = pyb::make_tuple(node_object(edge.node), edge.slot);
  }
  return result;
}

// Roots of the graph and the gradients to start from; None becomes undefined.
std::vector<Tensor> tensor_list(PyObject* sequence, const char* what) {
  if (is_tensor(sequence)) return {unwrap(sequence)};
  if (sequence == Py_None) return {};
  const Owned list(PySequence_Fast(sequence, ""));
  if (!list) PyErr_Clear();
  VT_CHECK(list, kType, what, ": expected a Tensor or a list of Tensors, not ",
           Py_TYPE(sequence)->tp_name);
  std::vector<Tensor> result;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(list.get()); ++i) {
    PyObject* each = PySequence_Fast_GET_ITEM(list.get(), i);
    VT_CHECK(each == Py_None || is_tensor(each), kType, what, ": expected Tensors, but number ", i,
             " is ", Py_TYPE(each)->tp_name);
    result.push_back(each == Py_None ? Tensor() : unwrap(each));
  }
  return result;
}

void run_backward(std::span<const Tensor> roots, std::span<const Tensor> grads, bool keep_graph,
                  bool create_graph) {
  ReleaseGil release(ReleaseGil::kAlways);
  backward(roots, grads, {keep_graph, create_graph});
}

// backward(inputs=...): only these leaves collect.
void backward_into(std::span<const Tensor> roots, std::span<const Tensor> grads, bool keep_graph,
                   bool create_graph, const std::vector<Tensor>& inputs) {
  ReleaseGil release(ReleaseGil::kAlways);
  const std::vector<Tensor> found =
      gradients(roots, grads, inputs, {keep_graph, create_graph}, true);
  GradMode mode(create_graph);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!found[i].defined()) continue;
    const Tensor before = grad_of(inputs[i]);
    // A copy: the engine may have given the same memory to others.
    set_grad(inputs[i], before.defined() ? add(before, found[i], 1) : clone(found[i]));
  }
}

// --- backward and grad ---

constexpr Parameter kBackwardParameters[] = {{"tensors", 'x', false, false},
                                             {"grad_tensors", 'x', true, false},
                                             {"retain_graph", 'b', true, false},
                                             {"create_graph", 'b', true, false},
                                             {"inputs", 'x', true, false}};
constexpr Signature kBackward = {
    "backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, inputs=None) -> "
    "None",
    kBackwardParameters, 5, 5};
constexpr Parameter kMethodParameters[] = {{"self", 'T', false, false},
                                           {"gradient", 'x', true, false},
                                           {"retain_graph", 'b', true, false},
                                           {"create_graph", 'b', true, false},
                                           {"inputs", 'x', true, false}};
constexpr Signature kMethod = {
    "backward(Tensor self, gradient=None, retain_graph=None, create_graph=False, inputs=None) -> "
    "None",
    kMethodParameters, 5, 5};

// Arguments 1 to 4 mean the same in both.
PyObject* backward_call(std::span<const Tensor> roots, const Arguments& a, const Signature& s) {
  const bool create_graph = a.given(3) && boolean(a, 3, s);
  const bool keep_graph = a.given(2) ? boolean(a, 2, s) : create_graph;
  std::vector<Tensor> grads;
  if (a.given(1)) grads = tensor_list(a.slot[1], s.parameters[1].name);
  VT_CHECK(grads.empty() || grads.size() == roots.size(), kRuntime, "backward: got ", roots.size(),
           " tensors and ", grads.size(), " gradients; give one for each");
  if (a.given(4))
    backward_into(roots, grads, keep_graph, create_graph, tensor_list(a.slot[4], "inputs"));
  else run_backward(roots, grads, keep_graph, create_graph);
  return Py_NewRef(Py_None);
}

PyObject* backward_function(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    Arguments a;
    if (!bind(kBackward, nullptr, args, nargs, names, a)) return nullptr;
    return backward_call(tensor_list(a.slot[0], "tensors"), a, kBackward);
  });
}

PyObject* backward_method(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                          PyObject* names) {
  return guarded([&]() -> PyObject* {
    Arguments a;
    if (!bind(kMethod, self, args, nargs, names, a)) return nullptr;
    return backward_call({&unwrap(self), 1}, a, kMethod);
  });
}

constexpr Parameter kGradParameters[] = {
    {"outputs", 'x', false, false},     {"inputs", 'x', false, false},
    {"grad_outputs", 'x', true, false}, {"retain_graph", 'b', true, false},
    {"create_graph", 'b', true, false}, {"allow_unused", 'b', true, false}};
constexpr Signature kGrad = {
    "grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, "
    "allow_unused=False) -> tuple",
    kGradParameters, 6, 6};

PyObject* grad_function(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    Arguments a;
    if (!bind(kGrad, nullptr, args, nargs, names, a)) return nullptr;
    const std::vector<Tensor> outputs = tensor_list(a.slot[0], "outputs"),
                              inputs = tensor_list(a.slot[1], "inputs");
    std::vector<Tensor> grads;
    if (a.given(2)) grads = tensor_list(a.slot[2], "grad_outputs");
    VT_CHECK(grads.empty() || grads.size() == outputs.size(), kRuntime, "grad: got ",
             outputs.size(), " tensors and ", grads.size(), " gradients; give one for each");
    const bool create_graph = a.given(4) && boolean(a, 4, kGrad);
    const bool keep_graph = a.given(3) ? boolean(a, 3, kGrad) : create_graph;
    const bool allow_unused = a.given(5) && boolean(a, 5, kGrad);
    std::vector<Tensor> found;
    {
      ReleaseGil release(ReleaseGil::kAlways);
      found = gradients(outputs, grads, inputs, {keep_graph, create_graph}, allow_unused);
    }
    return wrap(found);
  });
}

// --- recording ---

PyObject* is_grad_enabled(PyObject*, PyObject*) { return wrap(grad_enabled()); }

PyObject* set_grad_enabled_function(PyObject*, PyObject* enabled) {
  const int wanted = PyObject_IsTrue(enabled);
  if (wanted < 0) return nullptr;
  const bool before = grad_enabled();
  set_grad_enabled(wanted != 0);
  return wrap(before);
}

// The hook dies with the accumulator, which may outlive the parameter: a weak reference.
void set_post_accumulate_hook(const pyb::object& param, const pyb::object& callable) {
  VT_CHECK(is_tensor(param.ptr()), kType, "register_post_accumulate_grad_hook: expected a Tensor");
  const Tensor& t = unwrap(param.ptr());
  Variable* v = variable(t);
  VT_CHECK(
      v && v->accumulator && is_leaf(t), kRuntime,
      "register_post_accumulate_grad_hook: only leaf tensors that require grad accumulate, got ",
      t);
  v->accumulator->set_post_hook(
      [weak = SharedObject(pyb::weakref(param).ptr()), call = SharedObject(callable.ptr())] {
        HoldGil gil;
        const Owned target(PyObject_CallNoArgs(weak.get()));
        if (!target) throw PythonError();
        if (target.get() == Py_None) return;
        const Owned result(checked(PyObject_CallOneArg(call.get(), target.get())));
      });
}

void bind_grad(const Tensor& param, const Tensor& place) {
  VT_CHECK(param.defined() && place.defined(), kType, "bind_grad: expected two Tensors");
  const Variable* v = variable(param);
  VT_CHECK(v && v->accumulator && is_leaf(param), kRuntime,
           "bind_grad: only leaf tensors that require grad have a gradient to bind, got ", param);
  v->accumulator->bind(place);
}

// What a custom function's forward made becomes part of the graph.
std::vector<Tensor> record_function(const std::string& name, const pyb::object& backward,
                                    const std::vector<Tensor>& inputs,
                                    const std::vector<Tensor>& outputs,
                                    const std::vector<Tensor>& saved) {
  VT_CHECK(!outputs.empty(), kRuntime, name, ": forward returned no tensors");
  bool records = false;
  for (const Tensor& input : inputs) records |= input.defined() && should_record(input);
  if (!records) return outputs;
  // An input that is returned as it is gets a new tensor: its own history must stay.
  std::vector<Tensor> results = outputs;
  for (Tensor& result : results) {
    bool is_input = false;
    for (const Tensor& input : inputs) is_input |= input.defined() && input.same(result);
    if (is_input) result = alias(result);
  }
  const Ref<Node> node =
      Ref<Node>::adopt(new PythonNode(name, backward.ptr(), inputs, results, saved));
  for (size_t i = 0; i < results.size(); ++i) {
    if (is_float(results[i].dtype())) set_history(results[i], node, static_cast<uint32_t>(i));
  }
  return results;
}

// --- methods of tensors ---

PyObject* register_hook_method(PyObject* self, PyObject* callable) {
  return guarded([&] {
    const int id = register_hook(unwrap(self), make_hook(callable));
    return pyb::cast(HookHandle{unwrap(self), id}).release().ptr();
  });
}

PyObject* retain_grad_method(PyObject* self, PyObject*) {
  return guarded([&] {
    retain_grad(unwrap(self));
    return Py_NewRef(Py_None);
  });
}

PyObject* post_accumulate_method(PyObject* self, PyObject* callable) {
  return guarded([&] {
    set_post_accumulate_hook(pyb::reinterpret_borrow<pyb::object>(self),
                             pyb::reinterpret_borrow<pyb::object>(callable));
    return Py_NewRef(Py_None);
  });
}

PyMethodDef g_functions[] = {
    {"backward", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(backward_function)),
     METH_FASTCALL | METH_KEYWORDS,
     "backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, inputs=None) -> "
     "None\n\n"
     "Adds the gradient of `tensors` to the leaves that they depend on, or to `inputs` only. Runs "
     "without the GIL."},
    {"grad", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(grad_function)),
     METH_FASTCALL | METH_KEYWORDS,
     "grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, "
     "allow_unused=False) -> tuple\n\n"
     "The gradients of `outputs` with respect to `inputs`; no leaf changes. Runs without the GIL."},
    {"is_grad_enabled", is_grad_enabled, METH_NOARGS,
     "is_grad_enabled() -> bool\n\nAre operations of this thread recorded?"},
    {"set_grad_enabled", set_grad_enabled_function, METH_O,
     "set_grad_enabled(enabled) -> bool\n\nSets whether operations of this thread are recorded; "
     "returns what was set."},
    {},
};

}  // namespace

PyMethodDef autograd_methods[] = {
    {"backward", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(backward_method)),
     METH_FASTCALL | METH_KEYWORDS,
     "backward(gradient=None, retain_graph=None, create_graph=False, inputs=None) -> None\n\n"
     "Adds the gradient of this tensor to the leaves that it depends on."},
    {"register_hook", register_hook_method, METH_O,
     "register_hook(hook) -> RemovableHandle\n\nCalls hook(grad) when the gradient is known; what "
     "it returns replaces "
     "the gradient, unless None."},
    {"register_post_accumulate_grad_hook", post_accumulate_method, METH_O,
     "register_post_accumulate_grad_hook(hook) -> None\n\nCalls hook(param) each time after `grad` "
     "has been written."},
    {"retain_grad", retain_grad_method, METH_NOARGS,
     "retain_grad() -> None\n\nKeeps the gradient of a tensor that is no leaf."},
    {},
};

PyObject* wrap_node(Ref<Node> node) { return node_object(std::move(node)).release().ptr(); }

void bind_autograd(pyb::module_& module) {
  checked(PyModule_AddFunctions(module.ptr(), g_functions));
  pyb::class_<NodeHandle>(module, "Node", "A recorded operation: one node of the backward graph.")
      .def("name", [](const NodeHandle& self) { return self.node->name(); })
      .def_property_readonly("next_functions", next_functions,
                             "The nodes that its gradients go to, with their slots.")
      .def("__eq__", [](const NodeHandle& self, const NodeHandle& other) { return self == other; })
      .def("__hash__", [](const NodeHandle& self) { return std::hash<Node*>()(self.node.get()); })
      .def("__repr__", [](const NodeHandle& self) {
        return str("<", self.node->name(), " object at ", static_cast<const void*>(self.node.get()),
                   ">");
      });
  pyb::class_<HookHandle>(module, "RemovableHandle", "Takes a hook away again.")
      .def("remove", &HookHandle::remove, "Takes the hook away; a second call does nothing.")
      .def("__enter__", [](pyb::object self) { return self; })
      .def("__exit__", [](HookHandle& self, const pyb::args&) { self.remove(); });
  module.def("bind_grad", &bind_grad, pyb::arg("param"), pyb::arg("place"),
             "The gradient of `param` is written to `place`, a tensor of its shape, from now on.");
  module.def("record_function", &record_function, pyb::arg("name"), pyb::arg("backward"),
             pyb::arg("inputs"), pyb::arg("outputs"), pyb::arg("saved"),
             "Makes outputs of a custom function differentiable: backward(saved, grads) returns "
             "one gradient or None for "
             "each input. Returns the outputs.");
}

}  // namespace vt::py
