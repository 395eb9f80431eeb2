// The border between C++ exceptions and Python exceptions, in both directions.
#pragma once
#include <Python.h>

#include <exception>
#include <memory>
#include <utility>

#include "base/error.h"

namespace vt::py {

// A Python exception on its way through C++: taken off the interpreter when thrown, so that it may
// cross threads, and put back where it reaches Python again.
class PythonError : public Error {
 public:
  PythonError();  // takes the exception that is set now; the GIL must be held
  void restore() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Sets the Python exception for the C++ exception that is being handled.
void set_error_from_current_exception() noexcept;

// Throws PythonError if a C API call failed.
inline PyObject* checked(PyObject* object) {
  if (VT_UNLIKELY(object == nullptr)) throw PythonError();
  return object;
}
inline int checked(int result) {
  if (VT_UNLIKELY(result < 0)) throw PythonError();
  return result;
}

// Runs f and returns its PyObject*; an exception becomes a Python exception and null.
template <class F>
PyObject* guarded(F&& f) noexcept {
  try {
    return f();
  } catch (...) {
    set_error_from_current_exception();
    return nullptr;
  }
}

// The same for functions whose success is 0.
template <class F>
int guarded_int(F&& f) noexcept {
  try {
    return f();
  } catch (...) {
    set_error_from_current_exception();
    return -1;
  }
}

// A reference that is given back at the end of the scope.
class Owned {
 public:
  Owned() = default;
  explicit Owned(PyObject* object) : object_(object) {}
  Owned(Owned&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Owned() { Py_XDECREF(object_); }
  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

// Adds OutOfMemoryError, FabricError and FabricTimeoutError.
void add_error_types(PyObject* module);

}  // namespace vt::py
