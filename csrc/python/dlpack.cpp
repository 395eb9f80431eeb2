// The Python side of DLPack: capsules, and the ordering of streams between producer and consumer.
#include "interop/dlpack.h"

#include "autograd/variable.h"
#include "device/backend.h"
#include "device/deferred.h"
#include "ops/ops.h"
#include "python/conversion.h"
#include "python/parse.h"

namespace vt::py {
namespace {

constexpr const char* kName = "dltensor";
constexpr const char* kUsedName = "used_dltensor";
constexpr const char* kVersionedName = "dltensor_versioned";
constexpr const char* kUsedVersionedName = "used_dltensor_versioned";

// A capsule that nobody consumed still owns its tensor.
template <class Managed, const char* const& kCapsuleName>
void destroy_capsule(PyObject* capsule) {
  if (!PyCapsule_IsValid(capsule, kCapsuleName)) return;
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, kCapsuleName));
  managed->deleter(managed);
}

// Makes the consumer's stream wait for the work queued here. By the protocol None and 1 are the
// legacy default stream, 2 the default stream of the thread, -1 asks for no waiting; any other
// number is a cudaStream_t.
void order_before(Device device, PyObject* stream) {
  if (device.is_cpu()) {
    VT_CHECK(stream == Py_None, kRuntime, "__dlpack__: a CPU tensor takes stream=None only");
    return;
  }
  int64_t number = 1;
  if (stream != Py_None) {
    number = PyLong_AsLongLong(stream);
    if (number == -1 && PyErr_Occurred()) throw PythonError();
  }
  VT_CHECK(number != 0, kRuntime, "__dlpack__: stream 0 is ambiguous for CUDA; use 1 or 2");
  if (number == -1) return;
  Backend& cuda = backend(device);
  const Stream consumer{device, reinterpret_cast<void*>(number)};
  const Stream producer = cuda.current_stream(device.index);
  if (producer == consumer) return;
  void* event = cuda.create_event(device.index, false);
  cuda.record_event(event, producer);
  cuda.wait_event(consumer, event);
  cuda.destroy_event(event);
}

bool wants_versioned(PyObject* max_version) {
  if (max_version == Py_None) return false;
  int major = 0, minor = 0;
  if (!PyArg_ParseTuple(max_version, "ii", &major, &minor)) throw PythonError();
  return major >= static_cast<int>(dlpack::kMajorVersion);
}

PyObject* export_method(PyObject* self, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    static const char* names[] = {"stream", "max_version", "dl_device", "copy", nullptr};
    PyObject *stream = Py_None, *max_version = Py_None, *dl_device = Py_None, *copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO:__dlpack__", const_cast<char**>(names),
                                     &stream, &max_version, &dl_device, &copy)) {
      return nullptr;
    }
    run_deferred();
    Tensor t = unwrap(self);
    VT_CHECK(!t.requires_grad(), kRuntime,
             "__dlpack__: can't export tensors that require gradient, use tensor.detach()");
    if (dl_device != Py_None) {
      int type = 0, id = 0;
      if (!PyArg_ParseTuple(dl_device, "ii", &type, &id)) return nullptr;
      const dlpack::DLDevice here = dlpack::to_dl(t.device());
      if (type != here.device_type || id != here.device_id) {
        VT_CHECK(type == dlpack::kCPU && copy != Py_False, kRuntime, "__dlpack__: cannot export ",
                 t, " to DLPack device (", type, ", ", id,
                 ") without a copy; copy=None or True moves it to the CPU");
        t = to_device(t, {}, false);
        copy = Py_False;
      }
    }
    const bool is_copied = copy == Py_True;
    if (is_copied) t = clone(t);
    order_before(t.device(), stream);
    if (wants_versioned(max_version)) {
      auto* managed = dlpack::export_versioned(t, is_copied);
      return PyCapsule_New(managed, kVersionedName,
                           destroy_capsule<dlpack::DLManagedTensorVersioned, kVersionedName>);
    }
    return PyCapsule_New(dlpack::export_tensor(t), kName,
                         destroy_capsule<dlpack::DLManagedTensor, kName>);
  });
}

PyObject* device_method(PyObject* self, PyObject*) {
  const dlpack::DLDevice device = dlpack::to_dl(unwrap(self).device());
  return Py_BuildValue("(ii)", device.device_type, device.device_id);
}

// What the producer needs to know of the consumer: nothing for a CPU, the stream for CUDA.
Owned stream_argument(PyObject* producer) {
  const Owned device(checked(PyObject_CallMethod(producer, "__dlpack_device__", nullptr)));
  int type = 0, id = 0;
  if (!PyArg_ParseTuple(device.get(), "ii", &type, &id)) throw PythonError();
  if (type != dlpack::kCUDA && type != dlpack::kCUDAManaged) return Owned(Py_NewRef(Py_None));
  check_device({DeviceType::kCUDA, static_cast<uint8_t>(id)});
  const auto handle = reinterpret_cast<int64_t>(cuda_backend().current_stream(id).handle);
  return Owned(checked(PyLong_FromLongLong(handle == 0 ? 1 : handle)));
}

Owned capsule_of(PyObject* producer) {
  if (PyCapsule_CheckExact(producer)) return Owned(Py_NewRef(producer));
  VT_CHECK(PyObject_HasAttrString(producer, "__dlpack__"), kType,
           "from_dlpack(): expected an object with __dlpack__, not ", Py_TYPE(producer)->tp_name);
  const Owned method(checked(PyObject_GetAttrString(producer, "__dlpack__")));
  const Owned none(checked(PyTuple_New(0))), options(checked(PyDict_New())),
      stream(stream_argument(producer));
  const Owned version(checked(Py_BuildValue("(II)", dlpack::kMajorVersion, dlpack::kMinorVersion)));
  checked(PyDict_SetItemString(options.get(), "stream", stream.get()));
  checked(PyDict_SetItemString(options.get(), "max_version", version.get()));
  Owned capsule(PyObject_Call(method.get(), none.get(), options.get()));
  if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {
    // A producer from before DLPack 1.0 does not know max_version.
    PyErr_Clear();
    checked(PyDict_DelItemString(options.get(), "max_version"));
    capsule = Owned(PyObject_Call(method.get(), none.get(), options.get()));
  }
  checked(capsule.get());
  return capsule;
}

}  // namespace

Tensor tensor_from_dlpack(PyObject* object) {
  const Owned capsule = capsule_of(object);
  if (PyCapsule_IsValid(capsule.get(), kVersionedName)) {
    auto* managed = static_cast<dlpack::DLManagedTensorVersioned*>(
        PyCapsule_GetPointer(capsule.get(), kVersionedName));
    if (managed->flags & dlpack::kReadOnly) {
      checked(PyErr_WarnEx(PyExc_UserWarning,
                           "from_dlpack(): the memory is read-only, but the tensor will not be; do "
                           "not write to it",
                           2));
    }
    checked(PyCapsule_SetName(capsule.get(), kUsedVersionedName));
    return dlpack::import_versioned(managed);
  }
  VT_CHECK(PyCapsule_IsValid(capsule.get(), kName), kRuntime,
           "from_dlpack(): a DLPack capsule can be consumed only once, and must be named dltensor "
           "or dltensor_versioned");
  auto* managed = static_cast<dlpack::DLManagedTensor*>(PyCapsule_GetPointer(capsule.get(), kName));
  checked(PyCapsule_SetName(capsule.get(), kUsedName));
  return dlpack::import_tensor(managed);
}

PyMethodDef dlpack_methods[] = {
    {"__dlpack__", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(export_method)),
     METH_VARARGS | METH_KEYWORDS,
     "__dlpack__(*, stream=None, max_version=None, dl_device=None, copy=None) -> capsule"},
    {"__dlpack_device__", device_method, METH_NOARGS, "__dlpack_device__() -> tuple[int, int]"},
    {},
};

}  // namespace vt::py
