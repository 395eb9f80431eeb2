// The tensor type itself: life of its objects, Python's protocols, and the merging of its method
// tables.
#include "python/tensor_type.h"

#include <structmember.h>

#include <cmath>
#include <cstddef>

#include "autograd/variable.h"
#include "ops/ops.h"
#include "python/conversion.h"
#include "python/generated.h"
#include "python/indexing.h"
#include "python/number_slots.h"
#include "python/parse.h"

namespace vt::py {

PyTypeObject* tensor_type = nullptr;

namespace {

// Objects of the exact type are kept for reuse; guarded by the GIL.
constexpr int kMaxFree = 256;
PyTensor* g_free[kMaxFree];
int g_free_count = 0;

void deallocate(PyObject* self) {
  auto* object = reinterpret_cast<PyTensor*>(self);
  if (VT_UNLIKELY(object->weak_references != nullptr)) PyObject_ClearWeakRefs(self);
  if (TensorImpl* impl = object->tensor.impl(); impl && impl->python_object == self) {
    impl->python_object = nullptr;
  }
  object->tensor.~Tensor();
  PyTypeObject* type = Py_TYPE(self);
  if (VT_LIKELY(type == tensor_type && g_free_count < kMaxFree)) g_free[g_free_count++] = object;
  else type->tp_free(self);
  Py_DECREF(type);
}

// --- construction from Python ---

Tensor tensor_from_arguments(PyObject* args) {
  const Py_ssize_t count = PyTuple_GET_SIZE(args);
  if (count == 0) return empty({0}, DType::kF32, {});
  PyObject* first = PyTuple_GET_ITEM(args, 0);
  if (count == 1 && is_tensor(first)) return alias(unwrap(first));
  if (count == 1 && !PyLong_Check(first)) return tensor_from_data(first, DType::kF32, {});
  Dims sizes;
  for (Py_ssize_t i = 0; i < count; ++i) {
    const Py_ssize_t size = PyNumber_AsSsize_t(PyTuple_GET_ITEM(args, i), PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred()) throw PythonError();
    sizes.push_back(size);
  }
  return empty(sizes, DType::kF32, {});
}

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    PyObject* wanted = kwargs ? PyDict_GetItemString(kwargs, "requires_grad") : nullptr;
    VT_CHECK(!kwargs || PyDict_GET_SIZE(kwargs) == (wanted ? 1 : 0), kType,
             "Tensor(): takes a tensor, data or sizes, and requires_grad");
    const Owned object(wrap_as(type, tensor_from_arguments(args)));
    if (wanted && checked(PyObject_IsTrue(wanted))) set_requires_grad(unwrap(object.get()), true);
    return Py_NewRef(object.get());
  });
}

// --- protocols ---

PyObject* compare(PyObject* self, PyObject* other, int op) {
  switch (op) {
    case Py_EQ: return slot_eq(self, other);
    case Py_NE: return slot_ne(self, other);
    case Py_LT: return slot_lt(self, other);
    case Py_LE: return slot_le(self, other);
    case Py_GT: return slot_gt(self, other);
    default: return slot_ge(self, other);
  }
}

// By identity: == compares elements.
Py_hash_t hash(PyObject* self) {
  const auto bits = reinterpret_cast<uintptr_t>(self);
  const auto value = static_cast<Py_hash_t>(bits >> 4 | bits << (8 * sizeof(bits) - 4));
  return value == -1 ? -2 : value;
}

int to_bool(PyObject* self) {
  return guarded_int([&] {
    const Tensor& t = unwrap(self);
    VT_CHECK(t.numel() != 0, kRuntime, "Boolean value of Tensor with no values is ambiguous");
    VT_CHECK(t.numel() == 1, kRuntime,
             "Boolean value of Tensor with more than one value is ambiguous, got ", t);
    return static_cast<int>(item(t).to<bool>());
  });
}

PyObject* to_int(PyObject* self) {
  return guarded([&] {
    const Scalar value = item(unwrap(self));
    return value.is_float() ? PyLong_FromDouble(value.to<double>())
                            : PyLong_FromLongLong(value.to<int64_t>());
  });
}

PyObject* to_float(PyObject* self) {
  return guarded([&] { return PyFloat_FromDouble(item(unwrap(self)).to<double>()); });
}

PyObject* to_index(PyObject* self) {
  return guarded([&] {
    const Tensor& t = unwrap(self);
    VT_CHECK(t.numel() == 1 && !is_float(t.dtype()), kType,
             "only integer tensors of a single element can be converted to an index, got ", t);
    return PyLong_FromLongLong(item(t).to<int64_t>());
  });
}

Py_ssize_t length(PyObject* self) {
  const Tensor& t = unwrap(self);
  if (t.dim() > 0) return static_cast<Py_ssize_t>(t.sizes()[0]);
  PyErr_SetString(PyExc_TypeError, "len() of a 0-d tensor");
  return -1;
}

PyObject* iterate(PyObject* self) {
  return guarded([&]() -> PyObject* {
    const Tensor& t = unwrap(self);
    VT_CHECK(t.dim() > 0, kType, "iteration over a 0-d tensor");
    const Owned pieces(wrap(unbind(t, 0)));
    return PyObject_GetIter(pieces.get());
  });
}

int contains(PyObject* self, PyObject* element) {
  return guarded_int([&] {
    const Tensor& t = unwrap(self);
    GradMode no_grad(false);
    if (is_tensor(element))
      return static_cast<int>(item(any(eq(t, unwrap(element)), {}, false)).to<bool>());
    Scalar value;
    VT_CHECK(number_from(element, value), kType,
             "Tensor.__contains__ takes a tensor or a number, not ", Py_TYPE(element)->tp_name);
    return static_cast<int>(item(any(eq(t, value), {}, false)).to<bool>());
  });
}

void add_methods(std::vector<PyMethodDef>& all, const PyMethodDef* methods) {
  for (; methods->ml_name; ++methods) all.push_back(*methods);
}

void add_number_slots(std::vector<PyType_Slot>& slots) {
  PyNumberMethods number{};
  fill_number_slots(number);
  add_arithmetic(slots, number);
  const auto add = [&](int id, auto* function) {
    slots.push_back({id, reinterpret_cast<void*>(function)});
  };
  add(Py_nb_bool, &to_bool);
  add(Py_nb_int, &to_int);
  add(Py_nb_float, &to_float);
  add(Py_nb_index, &to_index);
}

}  // namespace

PyObject* new_wrapper(Tensor&& t) {
  PyTensor* object;
  if (VT_LIKELY(g_free_count > 0)) {
    object = g_free[--g_free_count];
    PyObject_Init(reinterpret_cast<PyObject*>(object), tensor_type);
  } else {
    object = PyObject_New(PyTensor, tensor_type);
    if (!object) throw PythonError();
  }
  new (&object->tensor) Tensor(std::move(t));
  object->weak_references = nullptr;
  object->tensor.impl()->python_object = object;
  return reinterpret_cast<PyObject*>(object);
}

PyObject* wrap_as(PyTypeObject* type, Tensor t) {
  if (type == tensor_type) return wrap(std::move(t));
  auto* object = reinterpret_cast<PyTensor*>(checked(type->tp_alloc(type, 0)));
  new (&object->tensor) Tensor(std::move(t));
  object->weak_references = nullptr;
  object->tensor.impl()->python_object = object;
  return reinterpret_cast<PyObject*>(object);
}

PyObject* wrap(const std::vector<Tensor>& list) {
  PyObject* tuple = checked(PyTuple_New(static_cast<Py_ssize_t>(list.size())));
  for (size_t i = 0; i < list.size(); ++i) {
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), wrap(list[i]));
  }
  return tuple;
}

void add_tensor_type(PyObject* module) {
  // The type keeps pointers into this list. Hand-written methods come first: of two with one name
  // the first stays.
  static std::vector<PyMethodDef> methods;
  for (const PyMethodDef* table :
       {object_methods, like_methods, property_methods, conversion_methods, numpy_methods,
        dlpack_methods, autograd_methods, generated_tensor_methods}) {
    add_methods(methods, table);
  }
  methods.push_back({nullptr, nullptr, 0, nullptr});
  static PyMemberDef members[] = {
      {"__weaklistoffset__", T_PYSSIZET, offsetof(PyTensor, weak_references), READONLY, nullptr},
      {nullptr, 0, 0, 0, nullptr}};

  std::vector<PyType_Slot> slots = {
      {Py_tp_doc, const_cast<char*>(
                      "A typed array on one device, with strides, that can record its history.")},
      {Py_tp_dealloc, reinterpret_cast<void*>(deallocate)},
      {Py_tp_new, reinterpret_cast<void*>(create)},
      {Py_tp_repr, reinterpret_cast<void*>(repr_slot)},
      {Py_tp_richcompare, reinterpret_cast<void*>(compare)},
      {Py_tp_hash, reinterpret_cast<void*>(hash)},
      {Py_tp_iter, reinterpret_cast<void*>(iterate)},
      {Py_sq_contains, reinterpret_cast<void*>(contains)},
      {Py_mp_length, reinterpret_cast<void*>(length)},
      {Py_mp_subscript, reinterpret_cast<void*>(get_item)},
      {Py_mp_ass_subscript, reinterpret_cast<void*>(set_item)},
      {Py_tp_methods, methods.data()},
      {Py_tp_getset, properties},
      {Py_tp_members, members},
  };
  add_number_slots(slots);
  slots.push_back({0, nullptr});
  PyType_Spec spec = {"vibetensor._C.Tensor", sizeof(PyTensor), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots.data()};
  tensor_type = reinterpret_cast<PyTypeObject*>(checked(PyType_FromSpec(&spec)));
  checked(PyModule_AddObjectRef(module, "Tensor", reinterpret_cast<PyObject*>(tensor_type)));
}

}  // namespace vt::py
