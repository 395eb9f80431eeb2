// Conversion of single Python objects into C++ arguments.
#include "python/parse.h"

#include "python/bind_device.h"
#include "python/bind_dtype.h"
#include "python/conversion.h"

namespace vt::py {
namespace {

int64_t int64_of(PyObject* object) {
  const int64_t value = PyLong_AsLongLong(object);
  if (VT_UNLIKELY(value == -1 && PyErr_Occurred())) throw PythonError();
  return value;
}

// int, or something with __index__ that is not a bool or a list.
bool to_integer(PyObject* object, int64_t& value) {
  if (VT_LIKELY(PyLong_CheckExact(object))) {
    value = int64_of(object);
    return true;
  }
  if (PyBool_Check(object)) return false;
  if (is_tensor(object)) {
    const Tensor& t = unwrap(object);
    if (is_float(t.dtype()) || t.numel() != 1) return false;
    value = item(t).to<int64_t>();
    return true;
  }
  if (!PyIndex_Check(object)) return false;
  const Owned index(PyNumber_Index(object));
  if (!index) throw PythonError();
  value = int64_of(index.get());
  return true;
}

// to_integer for argument i; an int that is too long says whose it is.
bool to_integer_of(PyObject* object, int64_t& value, int i, const Signature& s) {
  try {
    return to_integer(object, value);
  } catch (const PythonError& error) {
    error.restore();
    if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
      const std::string op(name_of(s));
      PyErr_Format(PyExc_OverflowError,
                   "%s(): argument '%s': %R does not fit in 64 bits; the signature is %s",
                   op.c_str(), s.parameters[i].name, object, s.text);
    }
    throw PythonError();
  }
}

}  // namespace

bool is_number(PyObject* object) {
  if (PyFloat_Check(object) || PyLong_Check(object)) return true;
  const PyTypeObject* type = Py_TYPE(object);
  const PyNumberMethods* as_number = type->tp_as_number;
  if (!as_number || !(as_number->nb_float || as_number->nb_index)) return false;
  const bool has_length = (type->tp_as_mapping && type->tp_as_mapping->mp_length) ||
                          (type->tp_as_sequence && type->tp_as_sequence->sq_length);
  return !has_length;
}

Scalar scalar_of(PyObject* number) {
  if (PyFloat_Check(number)) return Scalar(PyFloat_AS_DOUBLE(number));
  if (PyBool_Check(number)) return Scalar(number == Py_True);
  if (PyLong_Check(number)) return Scalar(int64_of(number));
  if (PyIndex_Check(number)) {
    const Owned index(checked(PyNumber_Index(number)));
    return Scalar(int64_of(index.get()));
  }
  const Owned value(checked(PyNumber_Float(number)));
  return Scalar(PyFloat_AS_DOUBLE(value.get()));
}

bool number_from_slow(PyObject* object, Scalar& value) {
  if (!is_number(object)) return false;
  value = scalar_of(object);
  return true;
}

Scalar detail::scalar_slow(const Arguments& a, int i, const Signature& s) {
  PyObject* object = a.slot[i];
  if (is_number(object)) return scalar_of(object);
  if (is_tensor(object) && unwrap(object).dim() == 0) return item(unwrap(object));
  wrong_type(a, i, s);
}

int64_t detail::integer_slow(const Arguments& a, int i, const Signature& s) {
  int64_t value;
  if (VT_UNLIKELY(!to_integer_of(a.slot[i], value, i, s))) wrong_type(a, i, s);
  return value;
}

double number(const Arguments& a, int i, const Signature& s) {
  return scalar(a, i, s).to<double>();
}

bool boolean(const Arguments& a, int i, const Signature& s) {
  PyObject* object = a.slot[i];
  if (object == Py_True) return true;
  if (object == Py_False) return false;
  // NumPy's bool, and 0-d tensors.
  const std::string_view type = Py_TYPE(object)->tp_name;
  const bool like_bool = type == "numpy.bool" || type == "numpy.bool_" ||
                         (is_tensor(object) && unwrap(object).dtype() == DType::kBool);
  if (!like_bool) detail::wrong_type(a, i, s);
  return checked(PyObject_IsTrue(object)) != 0;
}

std::string_view string(const Arguments& a, int i, const Signature& s) {
  PyObject* object = a.slot[i];
  if (!PyUnicode_Check(object)) detail::wrong_type(a, i, s);
  Py_ssize_t length = 0;
  const char* text = PyUnicode_AsUTF8AndSize(object, &length);
  if (!text) throw PythonError();
  return {text, static_cast<size_t>(length)};
}

namespace {

// The ints of an argument, into a list that has push_back.
template <class List>
List integer_list(const Arguments& a, int i, const Signature& s) {
  List result;
  const auto add = [&](PyObject* object) {
    int64_t value;
    if (VT_UNLIKELY(!to_integer_of(object, value, i, s))) {
      fail(ErrorKind::kType, name_of(s), "(): argument '", s.parameters[i].name,
           "' must hold ints, not ", Py_TYPE(object)->tp_name, "; the signature is ", s.text);
    }
    result.push_back(value);
  };
  if (a.rest_count > 0 && s.parameters[i].type == 'V') {
    for (Py_ssize_t k = 0; k < a.rest_count; ++k) add(a.rest[k]);
    return result;
  }
  PyObject* object = a.slot[i];
  if (VT_LIKELY(PyTuple_Check(object))) {
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(object); ++k) add(PyTuple_GET_ITEM(object, k));
  } else if (PyList_Check(object)) {
    for (Py_ssize_t k = 0; k < PyList_GET_SIZE(object); ++k) add(PyList_GET_ITEM(object, k));
  } else {
    int64_t value;
    if (!to_integer_of(object, value, i, s)) detail::wrong_type(a, i, s);
    result.push_back(value);
  }
  return result;
}

}  // namespace

Dims dims(const Arguments& a, int i, const Signature& s) { return integer_list<Dims>(a, i, s); }
std::vector<int64_t> integers(const Arguments& a, int i, const Signature& s) {
  return integer_list<std::vector<int64_t>>(a, i, s);
}

DType dtype(const Arguments& a, int i, const Signature& s) {
  if (!is_dtype(a.slot[i])) detail::wrong_type(a, i, s);
  return dtype_of(a.slot[i]);
}

Device device(const Arguments& a, int i, const Signature& s) {
  if (!is_device(a.slot[i])) detail::wrong_type(a, i, s);
  return existing_device_of(a.slot[i]);
}

std::vector<Tensor> tensors(const Arguments& a, int i, const Signature& s) {
  PyObject* object = a.slot[i];
  if (is_tensor(object) || PyUnicode_Check(object)) detail::wrong_type(a, i, s);
  const Owned fast(PySequence_Fast(object, ""));
  if (!fast) {
    PyErr_Clear();
    detail::wrong_type(a, i, s);
  }
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(fast.get());
  std::vector<Tensor> result;
  result.reserve(static_cast<size_t>(count));
  for (Py_ssize_t k = 0; k < count; ++k) {
    PyObject* each = PySequence_Fast_GET_ITEM(fast.get(), k);
    if (!is_tensor(each)) {
      fail(ErrorKind::kType, "argument '", s.parameters[i].name, "' must hold Tensors, but number ",
           k, " is ", Py_TYPE(each)->tp_name, "; the signature is ", s.text);
    }
    result.push_back(unwrap(each));
  }
  return result;
}

}  // namespace vt::py
