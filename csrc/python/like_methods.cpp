// Tensors like another one (new_zeros and its kin), and the comparisons that answer with a Python
// bool.
#include "autograd/variable.h"
#include "ops/ops.h"
#include "python/conversion.h"
#include "python/parse.h"

namespace vt::py {
namespace {

constexpr Parameter kNewParameters[] = {{"self", 'T', false, false},
                                        {"size", 'V', false, false},
                                        {"dtype", 'd', true, true},
                                        {"device", 'D', true, true},
                                        {"requires_grad", 'b', true, true}};
constexpr Signature kNewEmpty = {
    "new_empty(Tensor self, int... size, *, dtype=None, device=None, requires_grad=False) -> "
    "Tensor",
    kNewParameters, 5, 2};
constexpr Signature kNewZeros = {
    "new_zeros(Tensor self, int... size, *, dtype=None, device=None, requires_grad=False) -> "
    "Tensor",
    kNewParameters, 5, 2};
constexpr Signature kNewOnes = {
    "new_ones(Tensor self, int... size, *, dtype=None, device=None, requires_grad=False) -> Tensor",
    kNewParameters, 5, 2};
constexpr Parameter kFullParameters[] = {
    {"self", 'T', false, false}, {"size", 'I', false, false}, {"fill_value", 'S', false, false},
    {"dtype", 'd', true, true},  {"device", 'D', true, true}, {"requires_grad", 'b', true, true}};
constexpr Signature kNewFull = {
    "new_full(Tensor self, int[] size, Number fill_value, *, dtype=None, device=None, "
    "requires_grad=False) -> Tensor",
    kFullParameters, 6, 3};

// The options from argument `first` on; what is not given is as in `self`.
struct Options {
  DType dtype;
  Device device;
  bool requires_grad;

  Options(const Arguments& a, int first, const Signature& s, const Tensor& self)
      : dtype(optional_dtype(a, first, s).value_or(self.dtype())),
        device(optional_device(a, first + 1, s).value_or(self.device())),
        requires_grad(a.given(first + 2) && boolean(a, first + 2, s)) {}
  PyObject* finish(Tensor made) const {
    if (requires_grad) set_requires_grad(made, true);
    return wrap(std::move(made));
  }
};

constexpr auto kMakeEmpty = [](const Dims& sizes, DType t, Device d) { return empty(sizes, t, d); };
constexpr auto kMakeZeros = [](const Dims& sizes, DType t, Device d) { return zeros(sizes, t, d); };
constexpr auto kMakeOnes = [](const Dims& sizes, DType t, Device d) { return ones(sizes, t, d); };

template <const Signature& kSignature, auto kMake>
PyObject* new_method(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    Arguments a;
    if (!bind(kSignature, self, args, nargs, names, a)) return nullptr;
    const Options options(a, 2, kSignature, unwrap(self));
    return options.finish(kMake(dims(a, 1, kSignature), options.dtype, options.device));
  });
}

PyObject* new_full(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    Arguments a;
    if (!bind(kNewFull, self, args, nargs, names, a)) return nullptr;
    const Options options(a, 3, kNewFull, unwrap(self));
    return options.finish(
        full(dims(a, 1, kNewFull), scalar(a, 2, kNewFull), options.dtype, options.device));
  });
}

PyObject* new_tensor(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    static constexpr Parameter parameters[] = {{"self", 'T', false, false},
                                               {"data", 'x', false, false},
                                               {"dtype", 'd', true, true},
                                               {"device", 'D', true, true},
                                               {"requires_grad", 'b', true, true}};
    static constexpr Signature s = {
        "new_tensor(Tensor self, data, *, dtype=None, device=None, requires_grad=False) -> Tensor",
        parameters, 5, 2};
    Arguments a;
    if (!bind(s, self, args, nargs, names, a)) return nullptr;
    const Options options(a, 2, s, unwrap(self));
    return options.finish(tensor_from_data(a.slot[1], options.dtype, options.device));
  });
}

// --- comparisons ---

void check_comparable(const char* op, const Tensor& a, const Tensor& b) {
  VT_CHECK(a.device() == b.device(), kRuntime, op, ": the tensors are on different devices: ", a,
           " and ", b);
}

constexpr Parameter kEqualParameters[] = {{"self", 'T', false, false},
                                          {"other", 'T', false, false}};
constexpr Signature kEqual = {"equal(Tensor self, Tensor other) -> bool", kEqualParameters, 2, 2};

PyObject* equal(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    Arguments a;
    if (!bind(kEqual, self, args, nargs, names, a)) return nullptr;
    const Tensor &left = tensor(a, 0, kEqual), &right = tensor(a, 1, kEqual);
    check_comparable("equal", left, right);
    if (!(left.sizes() == right.sizes())) return wrap(false);
    ReleaseGil release(left, right);
    const Tensor same = all(eq(left, right), {}, false);
    release.reacquire();
    return wrap(item(same).to<bool>());
  });
}

constexpr Parameter kCloseParameters[] = {{"self", 'T', false, false},
                                          {"other", 'T', false, false},
                                          {"rtol", 'f', true, false},
                                          {"atol", 'f', true, false},
                                          {"equal_nan", 'b', true, false}};
constexpr Signature kIsClose = {
    "isclose(Tensor self, Tensor other, float rtol=1e-5, float atol=1e-8, bool equal_nan=False) -> "
    "Tensor",
    kCloseParameters, 5, 5};
constexpr Signature kAllClose = {
    "allclose(Tensor self, Tensor other, float rtol=1e-5, float atol=1e-8, bool equal_nan=False) "
    "-> bool",
    kCloseParameters, 5, 5};

// |a - b| <= atol + rtol |b|, or equal, which infinities are.
Tensor close(const Arguments& a, const Signature& s) {
  GradMode no_grad(false);
  const Tensor &left = tensor(a, 0, s), &right = tensor(a, 1, s);
  check_comparable(s.text[0] == 'i' ? "isclose" : "allclose", left, right);
  VT_CHECK(left.dtype() == right.dtype(), kRuntime, "isclose: expected one dtype, got ", left,
           " and ", right);
  const double rtol = a.given(2) ? number(a, 2, s) : 1e-5,
               atol = a.given(3) ? number(a, 3, s) : 1e-8;
  const bool equal_nan = a.given(4) && boolean(a, 4, s);
  const bool widen = !is_float(left.dtype());
  const Tensor x = widen ? to_dtype(left, DType::kF64) : left,
               y = widen ? to_dtype(right, DType::kF64) : right;
  const Tensor allowed = add(mul(vt::abs(y), rtol), atol, 1);
  const Tensor difference = vt::abs(sub(x, y, 1));
  Tensor result = logical_or(eq(x, y), logical_and(le(difference, allowed), isfinite(difference)));
  if (equal_nan) result = logical_or(result, logical_and(isnan(x), isnan(y)));
  return result;
}

PyObject* isclose(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    Arguments a;
    if (!bind(kIsClose, self, args, nargs, names, a)) return nullptr;
    return wrap(close(a, kIsClose));
  });
}

PyObject* allclose(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return guarded([&]() -> PyObject* {
    Arguments a;
    if (!bind(kAllClose, self, args, nargs, names, a)) return nullptr;
    return wrap(item(all(close(a, kAllClose), {}, false)).to<bool>());
  });
}

// A function of the module is a method without self.
template <auto kMethod>
PyObject* as_function(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* names) {
  return kMethod(nullptr, args, nargs, names);
}

PyCFunction fast(PyObject* (*f)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*)) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(f));
}

constexpr int kFast = METH_FASTCALL | METH_KEYWORDS;
constexpr const char* kEqualDoc =
    "equal(self, other) -> bool\n\nHave both the same shape and the same elements?";
constexpr const char* kIsCloseDoc =
    "isclose(self, other, rtol=1e-5, atol=1e-8, equal_nan=False) -> Tensor\n\n"
    "|self - other| <= atol + rtol * |other|, elementwise.";
constexpr const char* kAllCloseDoc =
    "allclose(self, other, rtol=1e-5, atol=1e-8, equal_nan=False) -> bool\n\n"
    "Is |self - other| <= atol + rtol * |other| for all elements?";

}  // namespace

PyMethodDef like_methods[] = {
    {"new_empty", fast(new_method<kNewEmpty, kMakeEmpty>), kFast, kNewEmpty.text},
    {"new_zeros", fast(new_method<kNewZeros, kMakeZeros>), kFast, kNewZeros.text},
    {"new_ones", fast(new_method<kNewOnes, kMakeOnes>), kFast, kNewOnes.text},
    {"new_full", fast(new_full), kFast, kNewFull.text},
    {"new_tensor", fast(new_tensor), kFast,
     "new_tensor(data, *, dtype=None, device=None, requires_grad=False) -> Tensor"},
    {"equal", fast(equal), kFast, kEqualDoc},
    {"isclose", fast(isclose), kFast, kIsCloseDoc},
    {"allclose", fast(allclose), kFast, kAllCloseDoc},
    {},
};

PyMethodDef compare_functions[] = {
    {"equal", fast(as_function<equal>), kFast, kEqualDoc},
    {"isclose", fast(as_function<isclose>), kFast, kIsCloseDoc},
    {"allclose", fast(as_function<allclose>), kFast, kAllCloseDoc},
    {},
};

}  // namespace vt::py
