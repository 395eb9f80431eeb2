// Placements, and the properties and cold methods of fabric tensors.
#include "python/bind_sharding.h"

#include "python/fabric_type.h"
#include "python/pybind_tensor.h"
#include "python/size_type.h"
#include "sharding/backward.h"
#include "sharding/ops.h"
#include "sharding/redistribute.h"

namespace pybind11::detail {

template <>
struct type_caster<vt::sharding::FabricTensor> {
  PYBIND11_TYPE_CASTER(vt::sharding::FabricTensor, const_name("FabricTensor"));
  bool load(handle source, bool) {
    if (source.is_none()) return true;  // an undefined tensor
    if (!vt::py::is_fabric_tensor(source.ptr())) return false;
    value = vt::py::unwrap_fabric(source.ptr());
    return true;
  }
  static handle cast(vt::sharding::FabricTensor t, return_value_policy, handle) {
    return vt::py::wrap(std::move(t));
  }
};

}  // namespace pybind11::detail

namespace vt::py {
namespace {

namespace pyb = pybind11;
using namespace sharding;
using Free = pyb::call_guard<pyb::gil_scoped_release>;

void bind_placement(pyb::module_& module) {
  pyb::class_<Placement>(module, "Placement",
                         "How a fabric tensor lies on its ranks: `Replicate()`, `Shard(dim)` or "
                         "`Partial(op)`.")
      .def(pyb::init([](std::optional<int> dim, const std::optional<std::string>& op) {
             if (dim) return Placement::shard(*dim);
             return op ? Placement::partial(collectives::parse_reduce_op(*op)) : Placement();
           }),
           pyb::arg("dim") = pyb::none(), pyb::arg("op") = pyb::none())
      .def("is_replicate", &Placement::is_replicate)
      .def(
          "is_shard",
          [](Placement p, std::optional<int> dim) { return dim ? p.is_shard(*dim) : p.is_shard(); },
          pyb::arg("dim") = pyb::none())
      .def("is_partial", &Placement::is_partial)
      .def_property_readonly(
          "dim",
          [](Placement p) { return p.is_shard() ? pyb::object(pyb::int_(p.dim())) : pyb::none(); },
          "The dimension of a Shard, else None.")
      .def_property_readonly(
          "op",
          [](Placement p) {
            return p.is_partial() ? pyb::object(pyb::str(std::string(name(p.op())))) : pyb::none();
          },
          "The reduction of a Partial, else None.")
      .def(
          "__eq__", [](Placement a, Placement b) { return a == b; }, pyb::is_operator())
      .def("__hash__", [](Placement p) { return std::hash<std::string>()(str(p)); })
      .def("__repr__", [](Placement p) { return str(p); });
  // The metaclass, for fabric.Shard and its like, of which C++ knows nothing.
  module.attr("PlacementType") = pyb::type::handle_of(module.attr("Placement"));
}

// Adds methods and properties to the type, which pybind11 did not make.
class TypeExtension {
 public:
  explicit TypeExtension(pyb::handle type)
      : type_(pyb::reinterpret_borrow<pyb::object>(type)),
        property_(pyb::module_::import("builtins").attr("property")) {}

  template <class F, class... Extra>
  TypeExtension& method(const char* name, F&& f, const char* doc, const Extra&... extra) {
    type_.attr(name) = pyb::cpp_function(std::forward<F>(f), pyb::name(name), pyb::is_method(type_),
                                         pyb::doc(doc), extra...);
    return *this;
  }
  template <class Get>
  TypeExtension& property(const char* name, Get&& get, const char* doc) {
    type_.attr(name) = property_(pyb::cpp_function(std::forward<Get>(get), pyb::is_method(type_)),
                                 pyb::none(), pyb::none(), doc);
    return *this;
  }
  template <class Get, class Set>
  TypeExtension& property(const char* name, Get&& get, Set&& set, const char* doc) {
    type_.attr(name) = property_(pyb::cpp_function(std::forward<Get>(get), pyb::is_method(type_)),
                                 pyb::cpp_function(std::forward<Set>(set), pyb::is_method(type_)),
                                 pyb::none(), doc);
    return *this;
  }

 private:
  pyb::object type_, property_;
};

pyb::object steal(PyObject* object) { return pyb::reinterpret_steal<pyb::object>(checked(object)); }

pyb::object size(const FabricTensor& t, std::optional<int64_t> dim) {
  if (!dim) return steal(wrap_size(t.sizes()));
  return pyb::int_(t.sizes()[wrap_dim("size", *dim, t.dim())]);
}

// to(dtype), or to(mesh) as models write it: y.to(x.device).
FabricTensor converted(const FabricTensor& t, const pyb::object& target, const pyb::object& device,
                       const pyb::object& type, bool /*non_blocking*/) {
  std::optional<DType> dtype;
  for (const pyb::object& given : {target, device, type}) {
    if (given.is_none()) continue;
    if (is_dtype(given.ptr())) {
      dtype = dtype_of(given.ptr());
      continue;
    }
    const fabric::Mesh* const mesh = mesh_of(given.ptr());
    VT_CHECK(
        mesh && *mesh == t.group().mesh(), kType, "to: ", t,
        " takes a dtype or its own mesh; full_tensor() and gather() give one device the whole");
  }
  if (!dtype || *dtype == t.dtype()) return t;
  pyb::gil_scoped_release release;
  return to_dtype(t, *dtype);
}

// `param.data = ...`: the leaves stay, their memory is exchanged.
void set_data(const FabricTensor& t, const FabricTensor& data) {
  VT_CHECK(data.defined() && &data.group() == &t.group() && data.placement() == t.placement(),
           kRuntime, "data: of ", t, " must be placed like it, got ", data);
  for (int r = 0; r < t.group().size(); ++r)
    pyb::setattr(steal(wrap(t.shards()[r])), "data", steal(wrap(data.shards()[r])));
  t.refresh_sizes();
}

FabricTensor deep_copy(const FabricTensor& t, const pyb::object&) {
  const FabricTensor copy = clone(detach(t));
  if (t.requires_grad()) copy.set_requires_grad(true);
  return copy;
}

template <DType kType>
FabricTensor converted_to(const FabricTensor& t) {
  return to_dtype(t, kType);
}

// All values on the first rank's device, without history.
pyb::object whole(const FabricTensor& t) {
  Tensor result;
  {
    pyb::gil_scoped_release release;
    result = gather_to(detach(t), 0);
  }
  return steal(wrap(std::move(result)));
}

// What `convert` reads of the values. An index out of range that kernels of any rank met is raised
// here, once.
template <class F>
auto read(const FabricTensor& t, F&& convert) {
  std::optional<decltype(convert(pyb::object()))> result;
  std::exception_ptr failure;
  const auto attempt = [&](auto&& f) {
    try {
      f();
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
  };
  attempt([&] { result = convert(whole(t)); });
  for (int rank = 0; rank < t.group().size(); ++rank)
    attempt([device = t.group().device(rank)] { backend(device).check_faults(device.index); });
  if (failure) std::rethrow_exception(failure);
  return *std::move(result);
}

template <PyObject* (*kConvert)(PyObject*)>
pyb::object as_number(const FabricTensor& t) {
  return read(t, [](const pyb::object& all) { return steal(kConvert(all.ptr())); });
}
pyb::object item(const FabricTensor& t) {
  return read(t, [](const pyb::object& all) -> pyb::object { return all.attr("item")(); });
}
pyb::object tolist(const FabricTensor& t) {
  return read(t, [](const pyb::object& all) -> pyb::object { return all.attr("tolist")(); });
}
bool is_true(const FabricTensor& t) {
  return read(t, [](const pyb::object& all) { return checked(PyObject_IsTrue(all.ptr())) != 0; });
}

std::string repr(const FabricTensor& t) {
  std::string text = str("FabricTensor(", t);
  if (t.requires_grad()) text += t.is_leaf() ? ", requires_grad=True" : ", grad_fn";
  return text + ")";
}

void run_backward(const FabricTensor& root, const FabricTensor& gradient, bool retain_graph,
                  bool create_graph) {
  sharding::backward({&root, 1}, {&gradient, 1}, {retain_graph || create_graph, create_graph});
}

void extend_type() {
  TypeExtension type(reinterpret_cast<PyObject*>(fabric_tensor_type));
  type.property(
          "placement", [](const FabricTensor& t) { return t.placement(); },
          "How the local tensors make up the whole.")
      .property(
          "mesh", [](const FabricTensor& t) { return t.group().mesh(); }, "The ranks.")
      .property(
          "device", [](const FabricTensor& t) { return t.group().mesh(); },
          "The mesh: `torch.zeros(3, device=x.device)` is replicated on it.")
      .property(
          "is_cuda", [](const FabricTensor& t) { return t.group().mesh().is_cuda(); },
          "Are the ranks on GPUs?")
      .property(
          "shape", [](const FabricTensor& t) { return steal(wrap_size(t.sizes())); },
          "The sizes of the whole tensor.")
      .property(
          "ndim", [](const FabricTensor& t) { return t.dim(); }, "How many dimensions.")
      .property(
          "dtype", [](const FabricTensor& t) { return t.dtype(); }, "The element type.")
      .property(
          "T",
          [](const FabricTensor& t) {
            Dims order;
            for (int d = t.dim() - 1; d >= 0; --d) order.push_back(d);
            return permute(t, order);
          },
          "All dimensions in reverse order.")
      .property(
          "mT", [](const FabricTensor& t) { return transpose(t, -2, -1); },
          "The last two dimensions exchanged.")
      .property(
          "requires_grad", [](const FabricTensor& t) { return t.requires_grad(); },
          [](const FabricTensor& t, bool value) { t.set_requires_grad(value); },
          "Whether backward computes a gradient.")
      .property(
          "is_leaf", [](const FabricTensor& t) { return t.is_leaf(); },
          "Whether no recorded operation made it.")
      .property(
          "data", [](const FabricTensor& t) { return detach(t); }, &set_data,
          "The same memory without history; assigning exchanges the memory.")
      .property(
          "grad", [](const FabricTensor& t) { return t.grad(); },
          [](const FabricTensor& t, const FabricTensor& grad) { t.set_grad(grad); },
          "The accumulated gradient, or None; of a leaf placed as the leaf.");
  type.method(
          "dim", [](const FabricTensor& t) { return t.dim(); }, "How many dimensions.")
      .method("size", &size, "All sizes, or that of one dimension.", pyb::arg("dim") = pyb::none())
      .method(
          "numel", [](const FabricTensor& t) { return t.numel(); }, "How many elements.")
      .method(
          "element_size", [](const FabricTensor& t) { return item_size(t.dtype()); },
          "Bytes an element.")
      .method(
          "is_floating_point", [](const FabricTensor& t) { return is_float(t.dtype()); },
          "Is the element type a floating-point one?")
      .method(
          "requires_grad_",
          [](const pyb::object& self, bool value) {
            unwrap_fabric(self.ptr()).set_requires_grad(value);
            return self;
          },
          "Sets requires_grad; returns self.", pyb::arg("requires_grad") = true)
      .method(
          "retain_grad", [](const FabricTensor& t) { t.retain_grad(); },
          "Keeps the gradient of a result of operations.")
      .method("backward", &run_backward,
              "Gradients of this tensor with respect to all leaves, on all ranks at once.",
              pyb::arg("gradient") = pyb::none(), pyb::arg("retain_graph") = false,
              pyb::arg("create_graph") = false, Free())
      .method("to", &converted, "Converted elements; of its own mesh the tensor itself.",
              pyb::arg("target") = pyb::none(), pyb::kw_only(), pyb::arg("device") = pyb::none(),
              pyb::arg("dtype") = pyb::none(), pyb::arg("non_blocking") = false)
      .method("float", &converted_to<DType::kF32>, "As float32.", Free())
      .method("double", &converted_to<DType::kF64>, "As float64.", Free())
      .method("half", &converted_to<DType::kF16>, "As float16.", Free())
      .method("bfloat16", &converted_to<DType::kBF16>, "As bfloat16.", Free())
      .method("long", &converted_to<DType::kI64>, "As int64.", Free());
  for (const char* name : {"reshard", "redistribute"})
    type.method(name, &sharding::reshard,
                "The same tensor placed otherwise; a collective where that needs one.",
                pyb::arg("placement"), Free());
  type.method(
          "full_tensor",
          [](const FabricTensor& t) { return redistribute(t, Placement::replicate()).inputs()[0]; },
          "The whole tensor, on the device of rank 0.", Free())
      .method(
          "to_local_shards",
          [](const FabricTensor& t) {
            return std::vector<Tensor>(t.inputs().begin(), t.inputs().end());
          },
          "The local tensor of each rank.")
      .method(
          "_leaves",
          [](const FabricTensor& t) {
            return std::vector<Tensor>(t.shards().begin(), t.shards().end());
          },
          "The local tensors that collect gradients, for optimizers.")
      .method("item", &item, "The value of a tensor of one element.")
      .method("tolist", &tolist, "The values of the whole tensor as nested lists.")
      .method("__float__", &as_number<PyNumber_Float>, "The value of a tensor of one element.")
      .method("__int__", &as_number<PyNumber_Long>, "The value of a tensor of one element.")
      .method("__bool__", &is_true, "Is a tensor of one element not zero?")
      .method(
          "__format__",
          [](const pyb::object& self, const std::string& form) {
            const FabricTensor& t = unwrap_fabric(self.ptr());
            const bool number = t.dim() == 0 && !form.empty();
            return pyb::module_::import("builtins")
                .attr("format")(number ? item(t) : pyb::object(pyb::repr(self)), form);
          },
          "A 0-d tensor as its number.")
      .method("__deepcopy__", &deep_copy, "A leaf with memory of its own.", pyb::arg("memo"))
      .method("__repr__", &repr, "What it is; not its values.");
}

}  // namespace

void bind_sharding(pyb::module_& module) {
  mesh_type = reinterpret_cast<PyTypeObject*>(pyb::type::of<fabric::Mesh>().ptr());
  bind_placement(module);
  extend_type();
  module.def(
      "distribute",
      [](const Tensor& t, const fabric::Mesh& mesh, Placement placement) {
        return sharding::distribute(t, Group::of(mesh), placement);
      },
      pyb::arg("tensor"), pyb::arg("mesh"), pyb::arg("placement"), Free());
  module.def(
      "from_local_shards",
      [](std::vector<Tensor> shards, const fabric::Mesh& mesh, Placement placement) {
        return sharding::from_local_shards(std::move(shards), Group::of(mesh), placement);
      },
      pyb::arg("shards"), pyb::arg("mesh"), pyb::arg("placement"), Free());
  module.def(
      "fabric_backward",
      [](const std::vector<FabricTensor>& roots, const std::vector<FabricTensor>& gradients,
         bool retain_graph,
         bool create_graph) { sharding::backward(roots, gradients, {retain_graph, create_graph}); },
      Free());
  module.def(
      "fabric_grad",
      [](const std::vector<FabricTensor>& roots, const std::vector<FabricTensor>& inputs,
         const std::vector<FabricTensor>& given, bool retain_graph, bool create_graph,
         bool allow_unused) {
        return sharding::gradients(roots, given, inputs, {retain_graph, create_graph},
                                   allow_unused);
      },
      Free());
  module.def("gather_to", &gather_to, pyb::arg("tensor"), pyb::arg("rank") = 0, Free());
}

}  // namespace vt::py
