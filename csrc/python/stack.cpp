// Walking the frames of CPython.
#include <Python.h>

#include "python/stack.h"

#include <frameobject.h>

namespace vt::py {
namespace {

thread_local std::vector<MemoryFrame> t_kept;

std::vector<MemoryFrame> walk() {
  std::vector<MemoryFrame> result;
  PyFrameObject* frame = PyThreadState_GetFrame(PyThreadState_Get());
  while (frame) {
    PyCodeObject* code = PyFrame_GetCode(frame);
    const char* file = PyUnicode_AsUTF8(code->co_filename);
    const char* function = PyUnicode_AsUTF8(code->co_name);
    if (file && function) result.push_back({file, function, PyFrame_GetLineNumber(frame)});
    else PyErr_Clear();
    Py_DECREF(code);
    PyFrameObject* outer = PyFrame_GetBack(frame);
    Py_DECREF(frame);
    frame = outer;
  }
  return result;
}

}  // namespace

std::vector<MemoryFrame> python_frames() { return PyGILState_Check() ? walk() : t_kept; }

void keep_frames() { t_kept = walk(); }
void drop_frames() { t_kept.clear(); }

}  // namespace vt::py
