// Arguments of Python calls: matched with a signature, then converted one by one. The generated
// callers of all operators are written against this.
#pragma once
#include <Python.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dims.h"
#include "base/dtype.h"
#include "base/scalar.h"
#include "ops/operand.h"
#include "python/errors.h"
#include "python/gil.h"
#include "python/tensor_type.h"

namespace vt::py {

inline constexpr int kMaxArguments = 16;

// Types: T tensor, O operand (tensor or number), S number, i int, f float, b bool, s str, I list of
// ints, V list of ints that may be given as separate positional ints, d dtype, D device, L list of
// tensors.
struct Parameter {
  const char* name;
  char type;
  bool optional;
  bool keyword_only;
};

struct Signature {
  const char* text;  // "add(Tensor self, Tensor|Number other, *, Number alpha=1) -> Tensor"
  const Parameter* parameters;
  int count;
  int positional;
};

struct Arguments {
  PyObject* slot[kMaxArguments];  // null: not given, or None where that is allowed
  PyObject* const* rest;          // the separate ints of a V parameter
  Py_ssize_t rest_count;

  bool given(int i) const { return slot[i] != nullptr; }
};

// Fills `arguments` from a METH_FASTCALL | METH_KEYWORDS call; `self` may be null. False with a
// TypeError that quotes the signature where names or counts do not fit.
bool bind(const Signature& signature, PyObject* self, PyObject* const* args, Py_ssize_t nargs,
          PyObject* kwnames, Arguments& arguments);
// The same for an operator that also takes out=, which goes to `out` and is null where not given.
bool bind_with_out(const Signature& signature, PyObject* self, PyObject* const* args,
                   Py_ssize_t nargs, PyObject* kwnames, Arguments& arguments, PyObject** out);
Tensor out_tensor(PyObject* out, const char* op);
// For overloads: as bind, and the types must fit; false without an exception.
bool matches(const Signature& signature, PyObject* self, PyObject* const* args, Py_ssize_t nargs,
             PyObject* kwnames, Arguments& arguments);
// The TypeError of a call that no overload takes; returns null.
PyObject* no_match(const char* name, std::span<const Signature* const> signatures, PyObject* self,
                   PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);

std::string_view name_of(const Signature& s);  // of the function

namespace detail {
[[noreturn]] VT_NOINLINE void wrong_type(const Arguments& a, int i, const Signature& s);
Scalar scalar_slow(const Arguments& a, int i, const Signature& s);
int64_t integer_slow(const Arguments& a, int i, const Signature& s);
}  // namespace detail

// Is it a number that can stand beside a tensor: Python's, NumPy's, but nothing that has a length?
bool is_number(PyObject* object);
Scalar scalar_of(PyObject* number);
bool number_from_slow(PyObject* object, Scalar& value);
// False where the object is no number.
inline bool number_from(PyObject* object, Scalar& value) {
  if (VT_LIKELY(PyFloat_CheckExact(object))) {
    value = Scalar(PyFloat_AS_DOUBLE(object));
    return true;
  }
  return number_from_slow(object, value);
}

// The converters. All throw a TypeError that names the operator, the argument and what was given.
inline const Tensor& tensor(const Arguments& a, int i, const Signature& s) {
  PyObject* object = a.slot[i];
  if (VT_UNLIKELY(!is_tensor(object))) detail::wrong_type(a, i, s);
  return unwrap(object);
}
inline Tensor optional_tensor(const Arguments& a, int i, const Signature& s) {
  return a.slot[i] ? tensor(a, i, s) : Tensor();
}
inline Scalar scalar(const Arguments& a, int i, const Signature& s) {
  PyObject* object = a.slot[i];
  if (VT_LIKELY(PyFloat_CheckExact(object))) return Scalar(PyFloat_AS_DOUBLE(object));
  return detail::scalar_slow(a, i, s);
}
inline Scalar optional_scalar(const Arguments& a, int i, const Signature& s) {
  return a.slot[i] ? scalar(a, i, s) : Scalar::none();
}
inline Operand operand(const Arguments& a, int i, const Signature& s) {
  PyObject* object = a.slot[i];
  if (is_tensor(object)) return Operand(unwrap(object));
  return Operand(scalar(a, i, s));
}
inline int64_t integer(const Arguments& a, int i, const Signature& s) {
  return detail::integer_slow(a, i, s);
}
double number(const Arguments& a, int i, const Signature& s);
bool boolean(const Arguments& a, int i, const Signature& s);
std::string_view string(const Arguments& a, int i, const Signature& s);
// An int counts as a list of one.
Dims dims(const Arguments& a, int i, const Signature& s);
std::vector<int64_t> integers(const Arguments& a, int i, const Signature& s);  // of any length
DType dtype(const Arguments& a, int i, const Signature& s);
Device device(const Arguments& a, int i, const Signature& s);  // one that exists
std::vector<Tensor> tensors(const Arguments& a, int i, const Signature& s);

inline std::optional<int64_t> optional_integer(const Arguments& a, int i, const Signature& s) {
  return a.slot[i] ? std::optional(integer(a, i, s)) : std::nullopt;
}
inline std::optional<double> optional_number(const Arguments& a, int i, const Signature& s) {
  return a.slot[i] ? std::optional(number(a, i, s)) : std::nullopt;
}
inline std::optional<bool> optional_boolean(const Arguments& a, int i, const Signature& s) {
  return a.slot[i] ? std::optional(boolean(a, i, s)) : std::nullopt;
}
inline std::string_view optional_string(const Arguments& a, int i, const Signature& s) {
  return a.slot[i] ? string(a, i, s) : std::string_view();
}
inline std::optional<Dims> optional_dims(const Arguments& a, int i, const Signature& s) {
  return a.slot[i] ? std::optional(dims(a, i, s)) : std::nullopt;
}
inline std::optional<DType> optional_dtype(const Arguments& a, int i, const Signature& s) {
  return a.slot[i] ? std::optional(dtype(a, i, s)) : std::nullopt;
}
inline std::optional<Device> optional_device(const Arguments& a, int i, const Signature& s) {
  return a.slot[i] ? std::optional(device(a, i, s)) : std::nullopt;
}

}  // namespace vt::py
