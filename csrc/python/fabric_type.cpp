// The type of fabric tensors: life of its objects, Python's operators, indexing, arguments.
#include "python/fabric_type.h"

#include <pybind11/pybind11.h>
#include <structmember.h>

#include <cstddef>

#include "python/generated.h"
#include "python/number_slots.h"
#include "sharding/ops.h"
#include "sharding/redistribute.h"

namespace vt::py {

using sharding::FabricOperand;
using sharding::FabricTensor;

PyTypeObject* fabric_tensor_type = nullptr;
PyTypeObject* mesh_type = nullptr;

namespace {

void deallocate(PyObject* self) {
  auto* object = reinterpret_cast<PyFabricTensor*>(self);
  if (object->weak_references) PyObject_ClearWeakRefs(self);
  object->tensor.~FabricTensor();
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* create(PyTypeObject* type, PyObject*, PyObject*) {
  PyErr_Format(PyExc_TypeError,
               "%s: made by fabric.distribute(tensor, mesh, placement) or "
               "fabric.from_local_shards(tensors, mesh, placement)",
               type->tp_name);
  return nullptr;
}

Py_hash_t hash(PyObject* self) {  // by identity: == compares elements
  return static_cast<Py_hash_t>(reinterpret_cast<uintptr_t>(self) >> 4);
}

Py_ssize_t length(PyObject* self) {
  const FabricTensor& t = unwrap_fabric(self);
  if (t.dim() > 0) return static_cast<Py_ssize_t>(t.sizes()[0]);
  PyErr_SetString(PyExc_TypeError, "len() of a 0-d tensor");
  return -1;
}

PyObject* iterate(PyObject* self) {
  return guarded([&]() -> PyObject* {
    const FabricTensor& t = unwrap_fabric(self);
    VT_CHECK(t.dim() > 0, kType, "iteration over a 0-d tensor");
    const Owned pieces(wrap(sharding::unbind(t, 0)));
    return PyObject_GetIter(pieces.get());
  });
}

int64_t integer_of(PyObject* object) {
  const Py_ssize_t value = PyNumber_AsSsize_t(object, PyExc_IndexError);
  if (value == -1 && PyErr_Occurred()) throw PythonError();
  return value;
}

// One step of t[...]: integers, slices, None and an ellipsis.
FabricTensor indexed(const FabricTensor& t, PyObject* key) {
  const bool many = PyTuple_Check(key);
  const Py_ssize_t count = many ? PyTuple_GET_SIZE(key) : 1;
  const auto item = [&](Py_ssize_t i) { return many ? PyTuple_GET_ITEM(key, i) : key; };
  int64_t used = 0;
  for (Py_ssize_t i = 0; i < count; ++i) used += item(i) != Py_None && item(i) != Py_Ellipsis;
  VT_CHECK(used <= t.dim(), kIndex, "too many indices (", used, ") for ", t);
  FabricTensor result = t;
  int dim = 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* const index = item(i);
    if (index == Py_None) {
      result = sharding::unsqueeze(result, dim++);
    } else if (index == Py_Ellipsis) {
      dim += static_cast<int>(t.dim() - used);
      used = t.dim();  // a second one stands for nothing
    } else if (PySlice_Check(index)) {
      Py_ssize_t start = 0, stop = 0, step = 0;
      checked(PySlice_Unpack(index, &start, &stop, &step));
      VT_CHECK(step > 0, kValue, "slice step must be positive");
      const Py_ssize_t size = result.sizes()[dim];
      PySlice_AdjustIndices(size, &start, &stop, step);
      if (start != 0 || stop < size || step != 1)
        result = sharding::slice(result, dim, start, std::max(start, stop), step);
      ++dim;
    } else {
      VT_CHECK(PyIndex_Check(index) && !PyBool_Check(index) && !is_tensor(index), kType,
               "index: ", t, " takes integers, slices, None and an ellipsis, not ",
               Py_TYPE(index)->tp_name, "; index_select and masked_fill take tensors");
      result = sharding::select(result, dim, integer_of(index));
    }
  }
  return result;
}

PyObject* subscript(PyObject* self, PyObject* key) {
  return guarded([&] { return wrap(indexed(unwrap_fabric(self), key)); });
}

[[noreturn]] void wrong(const Arguments& a, int i, const Signature& s) {
  const char* const hint =
      is_tensor(a.slot[i])
          ? ", not a Tensor of one device; fabric.distribute(tensor, mesh, placement) makes one"
          : "";
  fail(ErrorKind::kType, std::string_view(s.text).substr(0, std::string_view(s.text).find('(')),
       "(): argument '", s.parameters[i].name, "' must be a FabricTensor like the first one", hint,
       "; the signature is ", s.text);
}

}  // namespace

bool has_fabric_tensors(PyObject* object) {
  if (!PyTuple_Check(object) && !PyList_Check(object)) return false;
  return PySequence_Fast_GET_SIZE(object) > 0 && is_fabric_tensor(PySequence_Fast_ITEMS(object)[0]);
}

PyObject* wrap(FabricTensor t) {
  if (!t.defined()) return Py_NewRef(Py_None);
  auto* object = PyObject_New(PyFabricTensor, fabric_tensor_type);
  if (!object) throw PythonError();
  new (&object->tensor) FabricTensor(std::move(t));
  object->weak_references = nullptr;
  return reinterpret_cast<PyObject*>(object);
}

PyObject* wrap(const std::vector<FabricTensor>& list) {
  PyObject* tuple = checked(PyTuple_New(static_cast<Py_ssize_t>(list.size())));
  for (size_t i = 0; i < list.size(); ++i)
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), wrap(list[i]));
  return tuple;
}

const FabricTensor& fabric_tensor(const Arguments& a, int i, const Signature& s) {
  if (!is_fabric_tensor(a.slot[i])) wrong(a, i, s);
  return unwrap_fabric(a.slot[i]);
}

FabricTensor optional_fabric_tensor(const Arguments& a, int i, const Signature& s) {
  return a.slot[i] ? fabric_tensor(a, i, s) : FabricTensor();
}

FabricOperand fabric_operand(const Arguments& a, int i, const Signature& s) {
  if (is_fabric_tensor(a.slot[i])) return unwrap_fabric(a.slot[i]);
  if (is_tensor(a.slot[i])) wrong(a, i, s);
  return scalar(a, i, s);
}

std::vector<FabricTensor> fabric_tensors(const Arguments& a, int i, const Signature& s) {
  std::vector<FabricTensor> result;
  PyObject** items = PySequence_Fast_ITEMS(a.slot[i]);
  for (Py_ssize_t k = 0; k < PySequence_Fast_GET_SIZE(a.slot[i]); ++k) {
    if (!is_fabric_tensor(items[k])) wrong(a, i, s);
    result.push_back(unwrap_fabric(items[k]));
  }
  return result;
}

const fabric::Mesh* mesh_value(PyObject* mesh) {
  return &pybind11::cast<const fabric::Mesh&>(pybind11::handle(mesh));
}

std::optional<Device> no_other_mesh(const Arguments& a, int i, const Signature& s) {
  const FabricTensor& t = fabric_tensor(a, 0, s);
  const fabric::Mesh* const mesh = mesh_of(a.slot[i]);
  VT_CHECK(!a.given(i) || (mesh && *mesh == t.group().mesh()), kValue, "device: ", t,
           " makes a tensor on its own mesh only; for one device take full_tensor() first");
  return std::nullopt;
}

PyObject* wrap_everywhere(const Tensor& t, const fabric::Mesh& mesh) {
  FabricTensor result;
  {
    ReleaseGil release(ReleaseGil::kAlways);
    result = sharding::distribute(t, sharding::Group::of(mesh), {});
  }
  return wrap(std::move(result));
}

bool is_operand(PyObject* object) {
  return is_fabric_tensor(object) || is_tensor(object) || is_number(object);
}

PyObject* refuse_mixed(const char* op, PyObject* x, PyObject* y) {
  return guarded([&]() -> PyObject* {
    const bool first = is_fabric_tensor(x);
    fail(ErrorKind::kType, op, ": ", unwrap_fabric(first ? x : y), " with ", unwrap(first ? y : x),
         ", which is on one device; fabric.distribute(tensor, mesh, placement) first");
  });
}

void add_fabric_tensor_type(PyObject* module) {
  static PyMemberDef members[] = {{"__weaklistoffset__", T_PYSSIZET,
                                   offsetof(PyFabricTensor, weak_references), READONLY, nullptr},
                                  {nullptr, 0, 0, 0, nullptr}};
  std::vector<PyType_Slot> slots = {
      {Py_tp_doc,
       const_cast<char*>("One logical tensor on all ranks of a mesh: local tensors and how they "
                         "make it up.")},
      {Py_tp_dealloc, reinterpret_cast<void*>(deallocate)},
      {Py_tp_new, reinterpret_cast<void*>(create)},
      {Py_tp_richcompare, reinterpret_cast<void*>(compare_fabric_tensors)},
      {Py_tp_hash, reinterpret_cast<void*>(hash)},
      {Py_tp_iter, reinterpret_cast<void*>(iterate)},
      {Py_mp_length, reinterpret_cast<void*>(length)},
      {Py_mp_subscript, reinterpret_cast<void*>(subscript)},
      {Py_tp_methods, generated_tensor_methods},
      {Py_tp_members, members},
  };
  PyNumberMethods number{};
  fill_fabric_number_slots(number);
  add_arithmetic(slots, number);
  slots.push_back({0, nullptr});
  PyType_Spec spec = {"vibetensor._C.FabricTensor", sizeof(PyFabricTensor), 0, Py_TPFLAGS_DEFAULT,
                      slots.data()};
  fabric_tensor_type = reinterpret_cast<PyTypeObject*>(checked(PyType_FromSpec(&spec)));
  checked(PyModule_AddObjectRef(module, "FabricTensor",
                                reinterpret_cast<PyObject*>(fabric_tensor_type)));
}

}  // namespace vt::py
