// Matching of calls with signatures.
#include "python/parse.h"

#include <cstring>

#include "autograd/grad_mode.h"
#include "python/bind_device.h"
#include "python/bind_dtype.h"
#include "python/fabric_type.h"

namespace vt::py {
std::string_view name_of(const Signature& s) {
  const std::string_view text = s.text;
  return text.substr(0, text.find('('));
}

namespace {

// Names that NumPy's users know a parameter by; torch takes them too.
constexpr const char* kAliases[][2] = {
    {"axis", "dim"}, {"keepdims", "keepdim"}, {"input", "self"}, {"x", "self"}};

std::string_view text_of(PyObject* name) {
  if (VT_LIKELY(PyUnicode_IS_COMPACT_ASCII(name))) {
    return {reinterpret_cast<const char*>(PyUnicode_1BYTE_DATA(name)),
            static_cast<size_t>(PyUnicode_GET_LENGTH(name))};
  }
  Py_ssize_t length = 0;
  const char* text = PyUnicode_AsUTF8AndSize(name, &length);
  if (!text) PyErr_Clear();
  return {text ? text : "", static_cast<size_t>(length)};
}

int find_parameter(const Signature& s, std::string_view name) {
  for (int i = 0; i < s.count; ++i) {
    if (name == s.parameters[i].name) return i;
  }
  for (const auto& [alias, meant] : kAliases) {
    if (name != alias) continue;
    for (int i = 0; i < s.count; ++i) {
      if (std::strcmp(meant, s.parameters[i].name) == 0) return i;
    }
  }
  return -1;
}

std::string given(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  std::string out = "(";
  const auto add = [&](std::string_view name, PyObject* value) {
    if (out.size() > 1) out += ", ";
    if (!name.empty()) out += std::string(name) + "=";
    out += is_tensor(value) ? "Tensor" : Py_TYPE(value)->tp_name;
  };
  if (self) add("", self);
  for (Py_ssize_t i = 0; i < nargs; ++i) add("", args[i]);
  const Py_ssize_t named = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
  for (Py_ssize_t i = 0; i < named; ++i)
    add(text_of(PyTuple_GET_ITEM(kwnames, i)), args[nargs + i]);
  return out + ")";
}

bool is_list(PyObject* object) { return PyTuple_Check(object) || PyList_Check(object); }

// The one matcher of bind and matches; Complain says whether a failure sets an exception.
template <bool kComplain>
bool fill(const Signature& s, PyObject* self, PyObject* const* args, Py_ssize_t nargs,
          PyObject* kwnames, Arguments& out) {
  const auto complain = [&](const auto&... parts) {
    if constexpr (kComplain) {
      PyErr_SetString(PyExc_TypeError,
                      str(name_of(s), "(): ", parts..., "; the signature is ", s.text).c_str());
    }
    return false;
  };
  int filled = 0;
  if (self) out.slot[filled++] = self;
  out.rest = nullptr;
  out.rest_count = 0;

  Py_ssize_t taken = nargs;
  if (s.positional > 0 && s.parameters[s.positional - 1].type == 'V') {
    const Py_ssize_t before = s.positional - 1 - filled;  // arguments in front of the ints
    if (nargs > before && !is_list(args[before]) && args[before] != Py_None) {
      out.rest = args + before;
      out.rest_count = nargs - before;
      taken = before + 1;
    }
  }
  if (VT_UNLIKELY(filled + taken > s.positional)) {
    return complain("takes at most ", s.positional - filled, " positional arguments, got ", nargs);
  }
  for (Py_ssize_t i = 0; i < taken; ++i, ++filled) {
    out.slot[filled] = args[i] == Py_None && s.parameters[filled].optional ? nullptr : args[i];
  }
  const int named_from = filled;
  for (int i = filled; i < s.count; ++i) out.slot[i] = nullptr;

  if (kwnames) {
    const Py_ssize_t named = PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t k = 0; k < named; ++k) {
      const std::string_view name = text_of(PyTuple_GET_ITEM(kwnames, k));
      const int i = find_parameter(s, name);
      if (VT_UNLIKELY(i < 0)) return complain("has no argument '", name, "'");
      if (VT_UNLIKELY(i < named_from || out.slot[i]))
        return complain("got argument '", name, "' twice");
      PyObject* value = args[nargs + k];
      out.slot[i] = value == Py_None && s.parameters[i].optional ? nullptr : value;
    }
  }
  for (int i = named_from; i < s.count; ++i) {
    if (VT_UNLIKELY(!out.slot[i] && !s.parameters[i].optional)) {
      return complain("argument '", s.parameters[i].name, "' is missing");
    }
  }
  return true;
}

bool is_any_tensor(PyObject* object) { return is_tensor(object) || is_fabric_tensor(object); }

bool is_integer(PyObject* object) {
  if (PyLong_Check(object)) return !PyBool_Check(object);
  if (is_tensor(object)) return unwrap(object).numel() == 1 && !is_float(unwrap(object).dtype());
  return PyIndex_Check(object) && is_number(object);
}

bool fits(PyObject* object, char type) {
  switch (type) {
    case 'T': return is_any_tensor(object);
    case 'O': return is_any_tensor(object) || is_number(object);
    case 'S':
    case 'f': return is_number(object) || (is_tensor(object) && unwrap(object).dim() == 0);
    case 'i': return is_integer(object);
    case 'b': return PyBool_Check(object);
    case 's': return PyUnicode_Check(object);
    case 'I':
    case 'V': {
      if (!is_list(object)) return is_integer(object);
      PyObject** items = PySequence_Fast_ITEMS(object);
      for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(object); ++i) {
        if (!is_integer(items[i])) return false;
      }
      return true;
    }
    case 'd': return is_dtype(object);
    case 'D': return is_device(object) || mesh_of(object);
    case 'L': {
      if (!is_list(object)) return false;
      PyObject** items = PySequence_Fast_ITEMS(object);
      for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(object); ++i) {
        if (!is_any_tensor(items[i])) return false;
      }
      return true;
    }
    default: return false;
  }
}

}  // namespace

bool bind(const Signature& signature, PyObject* self, PyObject* const* args, Py_ssize_t nargs,
          PyObject* kwnames, Arguments& arguments) {
  return fill<true>(signature, self, args, nargs, kwnames, arguments);
}

bool bind_with_out(const Signature& signature, PyObject* self, PyObject* const* args,
                   Py_ssize_t nargs, PyObject* kwnames, Arguments& arguments, PyObject** out) {
  *out = nullptr;
  const Py_ssize_t named = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
  Py_ssize_t at = 0;
  while (at < named && text_of(PyTuple_GET_ITEM(kwnames, at)) != "out") ++at;
  if (VT_LIKELY(at == named)) return bind(signature, self, args, nargs, kwnames, arguments);

  // The call without its out=.
  *out = args[nargs + at] == Py_None ? nullptr : args[nargs + at];
  std::vector<PyObject*> values(args, args + nargs + named);
  values.erase(values.begin() + nargs + at);
  const Owned names(PyTuple_New(named - 1));
  if (!names) return false;
  for (Py_ssize_t k = 0, to = 0; k < named; ++k) {
    if (k != at) PyTuple_SET_ITEM(names.get(), to++, Py_NewRef(PyTuple_GET_ITEM(kwnames, k)));
  }
  return bind(signature, self, values.data(), nargs, names.get(), arguments);
}

Tensor out_tensor(PyObject* out, const char* op) {
  VT_CHECK(is_tensor(out), kType, op, "(): argument 'out' must be a Tensor, not ",
           Py_TYPE(out)->tp_name);
  const Tensor& t = unwrap(out);
  VT_CHECK(!(t.requires_grad() && grad_enabled()), kRuntime, op,
           "(): out= does not support automatic differentiation, but it requires grad: ", t);
  return t;
}

bool matches(const Signature& signature, PyObject* self, PyObject* const* args, Py_ssize_t nargs,
             PyObject* kwnames, Arguments& arguments) {
  if (!fill<false>(signature, self, args, nargs, kwnames, arguments)) return false;
  for (int i = 0; i < signature.count; ++i) {
    if (arguments.slot[i] && !fits(arguments.slot[i], signature.parameters[i].type)) return false;
  }
  return true;
}

PyObject* no_match(const char* name, std::span<const Signature* const> signatures, PyObject* self,
                   PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  std::string text =
      str(name, "(): no form of it takes ", given(self, args, nargs, kwnames), "; there are:");
  for (const Signature* s : signatures) text += str("\n  ", s->text);
  PyErr_SetString(PyExc_TypeError, text.c_str());
  return nullptr;
}

void detail::wrong_type(const Arguments& a, int i, const Signature& s) {
  const auto expected = [](char type) {
    switch (type) {
      case 'T': return "a Tensor";
      case 'O': return "a Tensor or a number";
      case 'S':
      case 'f': return "a number";
      case 'i': return "an int";
      case 'b': return "a bool";
      case 's': return "a str";
      case 'd': return "a dtype";
      case 'D': return "a device, a str or an int";
      case 'L': return "a list of Tensors";
      default: return "ints";
    }
  };
  PyObject* object = a.slot[i];
  fail(ErrorKind::kType, name_of(s), "(): argument '", s.parameters[i].name, "' must be ",
       expected(s.parameters[i].type), ", not ", object ? Py_TYPE(object)->tp_name : "nothing",
       object && is_fabric_tensor(object) ? " (it has no form for tensors on several devices; "
                                            "full_tensor() gives one on one device)"
                                          : "",
       "; the signature is ", s.text);
}

}  // namespace vt::py
