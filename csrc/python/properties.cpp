// What one can ask a tensor, and the few things that one can set.
#include "autograd/variable.h"
#include "device/deferred.h"
#include "ops/ops.h"
#include "python/bind_autograd.h"
#include "python/bind_device.h"
#include "python/bind_dtype.h"
#include "python/conversion.h"
#include "python/parse.h"
#include "python/size_type.h"

namespace vt::py {
namespace {

template <class F>
PyObject* read(PyObject* self, F&& f) {
  return guarded([&]() -> PyObject* { return f(unwrap(self)); });
}

template <class F>
int write(PyObject* self, PyObject* value, const char* what, F&& f) {
  return guarded_int([&] {
    VT_CHECK(value != nullptr, kType, what, " cannot be deleted");
    f(unwrap(self), value);
    return 0;
  });
}

// --- attributes ---

PyObject* get_shape(PyObject* self, void*) {
  return read(self, [](const Tensor& t) { return wrap_size(t.sizes()); });
}
PyObject* get_dtype(PyObject* self, void*) { return wrap_dtype(unwrap(self).dtype()); }
PyObject* get_device(PyObject* self, void*) {
  return read(self, [](const Tensor& t) { return wrap_device(t.device()); });
}
PyObject* get_ndim(PyObject* self, void*) { return PyLong_FromLong(unwrap(self).dim()); }
PyObject* get_itemsize(PyObject* self, void*) {
  return PyLong_FromSize_t(unwrap(self).item_size());
}
PyObject* get_nbytes(PyObject* self, void*) { return PyLong_FromSize_t(unwrap(self).bytes()); }
PyObject* get_is_cuda(PyObject* self, void*) { return wrap(unwrap(self).device().is_cuda()); }
PyObject* get_is_cpu(PyObject* self, void*) { return wrap(unwrap(self).device().is_cpu()); }
PyObject* get_version(PyObject* self, void*) {
  return PyLong_FromUnsignedLong(unwrap(self).version());
}

PyObject* get_transposed(PyObject* self, void*) {
  return read(self, [](const Tensor& t) {
    if (t.dim() == 2) return wrap(transpose(t, 0, 1));
    Dims order;
    for (int i = t.dim() - 1; i >= 0; --i) order.push_back(i);
    return wrap(permute(t, order));
  });
}
PyObject* get_matrix_transposed(PyObject* self, void*) {
  return read(self, [](const Tensor& t) {
    VT_CHECK(t.dim() >= 2, kRuntime,
             "tensor.mT is only supported on matrices or batches of matrices, got ", t);
    return wrap(transpose(t, -2, -1));
  });
}

PyObject* get_requires_grad(PyObject* self, void*) { return wrap(unwrap(self).requires_grad()); }
int set_requires_grad_attribute(PyObject* self, PyObject* value, void*) {
  return write(self, value, "requires_grad", [](const Tensor& t, PyObject* v) {
    VT_CHECK(PyBool_Check(v), kType, "requires_grad must be a bool, not ", Py_TYPE(v)->tp_name);
    set_requires_grad(t, v == Py_True);
  });
}
PyObject* get_is_leaf(PyObject* self, void*) {
  return read(self, [](const Tensor& t) { return wrap(is_leaf(t)); });
}
PyObject* get_grad_fn(PyObject* self, void*) {
  return read(self, [](const Tensor& t) { return wrap_node(grad_fn(t)); });
}
PyObject* get_grad(PyObject* self, void*) {
  return read(self, [](const Tensor& t) { return wrap(grad_of(t)); });
}
int set_grad_attribute(PyObject* self, PyObject* value, void*) {
  return guarded_int([&] {
    const bool clears = value == nullptr || value == Py_None;
    VT_CHECK(clears || is_tensor(value), kType, "grad must be a Tensor or None, not ",
             Py_TYPE(value)->tp_name);
    set_grad(unwrap(self), clears ? Tensor() : unwrap(value));
    return 0;
  });
}
PyObject* get_base(PyObject* self, void*) {
  return read(self, [](const Tensor& t) {
    const Variable* v = variable(t);
    return wrap(v ? v->base : Tensor());
  });
}

PyObject* get_data(PyObject* self, void*) {
  return read(self, [](const Tensor& t) { return wrap(alias(t)); });
}

// The tensor looks at other memory from now on; its identity, hooks and history stay.
void replace_data(const Tensor& t, const Tensor& source) {
  TensorImpl& impl = *t.impl();
  const bool same_kind =
      t.dtype() == source.dtype() && t.device() == source.device() && t.sizes() == source.sizes();
  VT_CHECK(is_leaf(t) || same_kind, kRuntime, "data: the tensor has a history, so ", source,
           " cannot replace ", t);
  VT_CHECK(!t.requires_grad() || is_float(source.dtype()), kRuntime,
           "data: a tensor that requires grad cannot become ", source);
  impl.storage = source.impl()->storage;
  impl.dtype = source.dtype();
  impl.device = source.device();
  impl.set_geometry(source.sizes(), source.strides(), source.offset());
  Variable* v = variable(t);
  if (same_kind || !v || !v->accumulator) return;
  // The accumulator was made for the old shape and place.
  v->accumulator = Ref<AccumulateGrad>::adopt(new AccumulateGrad(t.sizes(), t.dtype(), t.device()));
}
int set_data_attribute(PyObject* self, PyObject* value, void*) {
  return write(self, value, "data", [](const Tensor& t, PyObject* v) {
    VT_CHECK(is_tensor(v), kType, "data must be a Tensor, not ", Py_TYPE(v)->tp_name);
    replace_data(t, unwrap(v));
  });
}

// --- methods ---

PyObject* at_dim(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* names,
                 const Signature& s, PyObject* (*all)(const Dims&),
                 int64_t (Tensor::*one)(int64_t) const) {
  return guarded([&]() -> PyObject* {
    Arguments a;
    if (!bind(s, self, args, nargs, names, a)) return nullptr;
    const Tensor& t = unwrap(self);
    if (!a.given(1)) return all(one == &Tensor::size ? t.sizes() : t.strides());
    return wrap((t.*one)(integer(a, 1, s)));
  });
}
constexpr Parameter kAtDim[] = {{"self", 'T', false, false}, {"dim", 'i', true, false}};
constexpr Signature kSize = {"size(Tensor self, int? dim=None) -> Size | int", kAtDim, 2, 2};
constexpr Signature kStride = {"stride(Tensor self, int? dim=None) -> tuple[int, ...] | int",
                               kAtDim, 2, 2};

PyObject* size(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return at_dim(self, args, nargs, names, kSize, &wrap_size, &Tensor::size);
}
PyObject* stride(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return at_dim(self, args, nargs, names, kStride, &wrap_tuple, &Tensor::stride);
}
PyObject* dim(PyObject* self, PyObject*) { return PyLong_FromLong(unwrap(self).dim()); }
PyObject* numel(PyObject* self, PyObject*) { return PyLong_FromLongLong(unwrap(self).numel()); }
PyObject* element_size(PyObject* self, PyObject*) {
  return PyLong_FromSize_t(unwrap(self).item_size());
}
PyObject* storage_offset(PyObject* self, PyObject*) {
  return PyLong_FromLongLong(unwrap(self).offset());
}
PyObject* data_ptr(PyObject* self, PyObject*) {
  run_deferred();  // whoever has the address may read what lies there
  return PyLong_FromVoidPtr(unwrap(self).data());
}
PyObject* is_contiguous(PyObject* self, PyObject*) { return wrap(unwrap(self).is_dense()); }
PyObject* is_floating_point(PyObject* self, PyObject*) {
  return wrap(is_float(unwrap(self).dtype()));
}
PyObject* get_device_index(PyObject* self, PyObject*) {
  const Device device = unwrap(self).device();
  return PyLong_FromLong(device.is_cuda() ? device.index : -1);
}
PyObject* is_pinned(PyObject* self, PyObject*) {
  return read(self, [](const Tensor& t) {
    return wrap(t.device().is_cpu() && device_count(DeviceType::kCUDA) > 0 &&
                cuda_backend().is_pinned(t.data()));
  });
}
PyObject* requires_grad_(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    static constexpr Parameter parameters[] = {{"self", 'T', false, false},
                                               {"requires_grad", 'b', true, false}};
    static constexpr Signature s = {
        "requires_grad_(Tensor self, bool requires_grad=True) -> Tensor", parameters, 2, 2};
    Arguments a;
    if (!bind(s, self, args, nargs, names, a)) return nullptr;
    set_requires_grad(unwrap(self), a.given(1) ? boolean(a, 1, s) : true);
    return Py_NewRef(self);
  });
}
PyObject* set_data(PyObject* self, PyObject* value) {
  return set_data_attribute(self, value, nullptr) < 0 ? nullptr : Py_NewRef(Py_None);
}
PyObject* detach_(PyObject* self, PyObject*) {
  return read(self, [](const Tensor& t) {
    if (Variable* v = variable(t)) {
      VT_CHECK(!v->base.defined(), kRuntime, "detach_: can't detach views in-place; use detach()");
      v->grad_fn = nullptr;
    }
    t.impl()->requires_grad = false;
    return wrap(t);
  });
}

template <class F>
PyCFunction with_keywords(F* function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(function));
}

}  // namespace

PyGetSetDef properties[] = {
    {"shape", get_shape, nullptr, "The sizes of the dimensions, a Size.", nullptr},
    {"dtype", get_dtype, nullptr, "The element type.", nullptr},
    {"device", get_device, nullptr, "Where the elements are.", nullptr},
    {"ndim", get_ndim, nullptr, "The number of dimensions.", nullptr},
    {"itemsize", get_itemsize, nullptr, "Bytes an element.", nullptr},
    {"nbytes", get_nbytes, nullptr, "Bytes of all elements.", nullptr},
    {"is_cuda", get_is_cuda, nullptr, "Is it on a GPU?", nullptr},
    {"is_cpu", get_is_cpu, nullptr, "Is it on a CPU device?", nullptr},
    {"_version", get_version, nullptr, "How often its memory was modified in place.", nullptr},
    {"T", get_transposed, nullptr, "The dimensions in reverse order, a view.", nullptr},
    {"mT", get_matrix_transposed, nullptr, "The last two dimensions exchanged, a view.", nullptr},
    {"requires_grad", get_requires_grad, set_requires_grad_attribute, "Does backward reach it?",
     nullptr},
    {"is_leaf", get_is_leaf, nullptr, "Was it made by the user, not by a recorded operation?",
     nullptr},
    {"grad_fn", get_grad_fn, nullptr, "The node that recorded its operation, or None.", nullptr},
    {"grad", get_grad, set_grad_attribute, "The accumulated gradient, or None.", nullptr},
    {"_base", get_base, nullptr, "The tensor that it was recorded as a view of, or None.", nullptr},
    {"data", get_data, set_data_attribute,
     "The same memory without history; assigning exchanges the memory.", nullptr},
    {},
};

PyMethodDef property_methods[] = {
    {"size", with_keywords(size), METH_FASTCALL | METH_KEYWORDS,
     "size(dim=None) -> Size | int\n\nAll sizes, or that of one dimension."},
    {"stride", with_keywords(stride), METH_FASTCALL | METH_KEYWORDS,
     "stride(dim=None) -> tuple | int\n\nAll strides in elements, or that of one dimension."},
    {"dim", dim, METH_NOARGS, "dim() -> int\n\nThe number of dimensions."},
    {"ndimension", dim, METH_NOARGS, "ndimension() -> int\n\nThe number of dimensions."},
    {"numel", numel, METH_NOARGS, "numel() -> int\n\nThe number of elements."},
    {"nelement", numel, METH_NOARGS, "nelement() -> int\n\nThe number of elements."},
    {"element_size", element_size, METH_NOARGS, "element_size() -> int\n\nBytes an element."},
    {"storage_offset", storage_offset, METH_NOARGS,
     "storage_offset() -> int\n\nElements between the start of the storage and the first element."},
    {"data_ptr", data_ptr, METH_NOARGS, "data_ptr() -> int\n\nThe address of the first element."},
    {"is_contiguous", is_contiguous, METH_NOARGS,
     "is_contiguous() -> bool\n\nIs it row-major without gaps?"},
    {"is_floating_point", is_floating_point, METH_NOARGS,
     "is_floating_point() -> bool\n\nIs the dtype one of the four float types?"},
    {"get_device", get_device_index, METH_NOARGS,
     "get_device() -> int\n\nThe index of its CUDA device, -1 on the CPU."},
    {"is_pinned", is_pinned, METH_NOARGS,
     "is_pinned() -> bool\n\nIs it in host memory that a GPU copies from directly?"},
    {"requires_grad_", with_keywords(requires_grad_), METH_FASTCALL | METH_KEYWORDS,
     "requires_grad_(requires_grad=True) -> Tensor\n\nSets requires_grad and returns the tensor."},
    {"set_data", set_data, METH_O,
     "set_data(data) -> None\n\nThe tensor looks at the memory of `data` from now on, as by "
     "assigning .data."},
    {"detach_", detach_, METH_NOARGS, "detach_() -> Tensor\n\nForgets its history."},
    {},
};

}  // namespace vt::py
