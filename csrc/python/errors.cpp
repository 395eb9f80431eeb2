// Which Python exception a C++ exception becomes.
#include "python/errors.h"

#include <pybind11/pybind11.h>

#include "python/gil.h"

namespace vt::py {
namespace {

PyObject* g_out_of_memory = nullptr;
PyObject* g_fabric = nullptr;
PyObject* g_fabric_timeout = nullptr;

PyObject* type_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kValue: return PyExc_ValueError;
    case ErrorKind::kType: return PyExc_TypeError;
    case ErrorKind::kIndex: return PyExc_IndexError;
    case ErrorKind::kNotImplemented: return PyExc_NotImplementedError;
    case ErrorKind::kOutOfMemory: return g_out_of_memory;
    case ErrorKind::kFabric: return g_fabric;
    case ErrorKind::kFabricTimeout: return g_fabric_timeout;
    default: return PyExc_RuntimeError;
  }
}

std::string text_of_current_error() {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  Owned text(value ? PyObject_Str(value) : nullptr);
  std::string result =
      type ? reinterpret_cast<PyTypeObject*>(type)->tp_name : "no Python exception";
  if (const char* utf8 = text ? PyUnicode_AsUTF8(text.get()) : nullptr)
    result += std::string(": ") + utf8;
  PyErr_Restore(type, value, traceback);
  return result;
}

}  // namespace

struct PythonError::State {
  PyObject *type, *value, *traceback;
  ~State() {
    if (!Py_IsInitialized()) return;  // the process is ending
    HoldGil gil;
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
  }
};

PythonError::PythonError()
    : Error(ErrorKind::kRuntime, text_of_current_error()), state_(std::make_shared<State>()) {
  PyErr_Fetch(&state_->type, &state_->value, &state_->traceback);
}

void PythonError::restore() const {
  Py_XINCREF(state_->type);
  Py_XINCREF(state_->value);
  Py_XINCREF(state_->traceback);
  PyErr_Restore(state_->type, state_->value, state_->traceback);
}

void set_error_from_current_exception() noexcept {
  try {
    throw;
  } catch (const PythonError& error) { error.restore(); } catch (const Error& error) {
    PyErr_SetString(type_of(error.kind()), error.what());
  } catch (pybind11::error_already_set& error) {
    error.restore();
  } catch (const pybind11::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) { PyErr_NoMemory(); } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  } catch (...) { PyErr_SetString(PyExc_RuntimeError, "unknown C++ exception"); }
}

void add_error_types(PyObject* module) {
  const auto add = [&](const char* name, const char* doc, PyObject* base) {
    const std::string full = std::string("vibetensor.") + name;
    PyObject* type = checked(PyErr_NewExceptionWithDoc(full.c_str(), doc, base, nullptr));
    checked(PyModule_AddObjectRef(module, name, type));
    return type;  // kept for the life of the process
  };
  g_out_of_memory =
      add("OutOfMemoryError", "A device has no room for an allocation.", PyExc_RuntimeError);
  g_fabric = add("FabricError", "Devices could not work together.", PyExc_RuntimeError);
  g_fabric_timeout = add("FabricTimeoutError", "A device did not arrive in time.", g_fabric);
}

}  // namespace vt::py
