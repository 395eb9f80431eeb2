// Results with names, as max and sort return them: tuples whose fields are attributes too.
#pragma once
#include <Python.h>

#include <initializer_list>
#include <tuple>
#include <utility>

#include "python/errors.h"
#include "python/fabric_type.h"
#include "python/tensor_type.h"

namespace vt::py {

// A new type of tuple, called `name` in its repr; lives as long as the process. Needs the GIL.
PyTypeObject* named_results(const char* name, std::initializer_list<const char*> fields);

template <class Results>
PyObject* wrap_named(PyTypeObject* type, Results&& results) {
  Owned object(checked(PyStructSequence_New(type)));
  Py_ssize_t i = 0;
  std::apply(
      [&](auto&&... each) {
        (PyStructSequence_SetItem(object.get(), i++, wrap(std::move(each))), ...);
      },
      std::forward<Results>(results));
  return object.release();
}

}  // namespace vt::py
