// Device objects: made once for each id, then shared.
#include "python/bind_device.h"

#include "device/backend.h"
#include "python/errors.h"

namespace vt::py {
namespace {

struct PyDevice {
  PyObject_HEAD Device device;
};

PyTypeObject* g_type = nullptr;
PyObject* g_objects[kDeviceTypeCount][kMaxDevices];

Device self_device(PyObject* self) { return reinterpret_cast<PyDevice*>(self)->device; }

const char* type_name(Device device) { return device.is_cpu() ? "cpu" : "cuda"; }

Device parse(PyObject* text) {
  const char* utf8 = PyUnicode_AsUTF8(text);
  if (!utf8) throw PythonError();
  const ParsedDevice parsed = parse_device(utf8);
  if (parsed.has_index || parsed.device.is_cpu()) return parsed.device;
  return {DeviceType::kCUDA, static_cast<uint8_t>(current_cuda_index())};
}

uint8_t checked_index(PyObject* number) {
  const long index = PyLong_AsLong(number);
  if (index == -1 && PyErr_Occurred()) throw PythonError();
  VT_CHECK(index >= 0 && index < kMaxDevices, kRuntime, "device: expected an index from 0 to ",
           kMaxDevices - 1, ", got ", index);
  return static_cast<uint8_t>(index);
}

PyObject* create(PyTypeObject*, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    static const char* names[] = {"type", "index", nullptr};
    PyObject *type = nullptr, *index = nullptr;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:device", const_cast<char**>(names), &type,
                                     &index)) {
      return nullptr;
    }
    VT_CHECK(is_device(type), kType, "device: expected a str, a device or an int, got ",
             Py_TYPE(type)->tp_name);
    Device device = device_of(type);
    if (index && index != Py_None) {
      VT_CHECK(PyUnicode_Check(type) && !parse_device(PyUnicode_AsUTF8(type)).has_index, kRuntime,
               "device: an index belongs to a type alone, as in device('cuda', 0)");
      device.index = checked_index(index);
    }
    return wrap_device(device);
  });
}

PyObject* represent(PyObject* self) {
  const Device device = self_device(self);
  return PyUnicode_FromFormat("device(type='%s', index=%d)", type_name(device), device.index);
}
PyObject* to_str(PyObject* self) {
  return PyUnicode_FromFormat("%s:%d", type_name(self_device(self)), self_device(self).index);
}
PyObject* get_type(PyObject* self, void*) {
  return PyUnicode_FromString(type_name(self_device(self)));
}
PyObject* get_index(PyObject* self, void*) { return PyLong_FromLong(self_device(self).index); }
PyObject* reduce(PyObject* self, PyObject*) {
  return Py_BuildValue("O(N)", Py_TYPE(self), to_str(self));
}
PyObject* itself(PyObject* self, PyObject*) { return Py_NewRef(self); }

PyMethodDef g_methods[] = {
    {"__reduce__", reduce, METH_NOARGS, nullptr},
    {"__copy__", itself, METH_NOARGS, nullptr},
    {"__deepcopy__", itself, METH_O, nullptr},
    {},
};
PyGetSetDef g_getset[] = {
    {"type", get_type, nullptr, "'cpu' or 'cuda'.", nullptr},
    {"index", get_index, nullptr, "Which device of that type.", nullptr},
    {},
};
PyType_Slot g_slots[] = {
    {Py_tp_doc,
     const_cast<char*>("device(type, index=None): the id of a device, such as device('cuda', 0), "
                       "device('cuda:0') or device('cpu:2').")},
    {Py_tp_new, reinterpret_cast<void*>(create)},
    {Py_tp_repr, reinterpret_cast<void*>(represent)},
    {Py_tp_str, reinterpret_cast<void*>(to_str)},
    {Py_tp_methods, g_methods},
    {Py_tp_getset, g_getset},
    {0, nullptr},
};
PyType_Spec g_spec = {"vibetensor._C.device", sizeof(PyDevice), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, g_slots};

}  // namespace

bool is_device(PyObject* object) {
  return Py_IS_TYPE(object, g_type) || PyUnicode_Check(object) ||
         (PyLong_Check(object) && !PyBool_Check(object));
}

Device device_of(PyObject* object) {
  if (VT_LIKELY(Py_IS_TYPE(object, g_type))) return self_device(object);
  if (PyUnicode_Check(object)) return parse(object);
  return {DeviceType::kCUDA, checked_index(object)};
}

Device existing_device_of(PyObject* object) {
  const Device device = device_of(object);
  check_device(device);
  return device;
}

// One object an id, so equality and hash are those of identity.
PyObject* wrap_device(Device device) {
  PyObject*& cached = g_objects[static_cast<int>(device.type)][device.index];
  if (!cached) {
    cached = checked(g_type->tp_alloc(g_type, 0));
    reinterpret_cast<PyDevice*>(cached)->device = device;
  }
  return Py_NewRef(cached);
}

void add_device_type(PyObject* module) {
  g_type = reinterpret_cast<PyTypeObject*>(checked(PyType_FromSpec(&g_spec)));
  checked(PyModule_AddObjectRef(module, "device", reinterpret_cast<PyObject*>(g_type)));
}

}  // namespace vt::py
