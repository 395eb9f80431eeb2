// Streams and events as Python objects.
#include <memory>
#include <utility>
#include <vector>

#include "device/backend.h"
#include "device/deferred.h"
#include "device/gpu_details.h"
#include "python/bind_runtime.h"
#include "python/gil.h"
#include "python/pybind_tensor.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

// Created streams go back when their last object goes; current and default ones are only looked at.
class StreamObject {
 public:
  explicit StreamObject(Stream stream, bool owned = false) : stream_(stream), owned_(owned) {}
  ~StreamObject() {
    if (owned_) backend(stream_.device).destroy_stream(stream_);
  }
  StreamObject(const StreamObject&) = delete;
  StreamObject& operator=(const StreamObject&) = delete;

  Stream get() const { return stream_; }
  Backend& device() const { return backend(stream_.device); }

 private:
  Stream stream_;
  bool owned_;
};
using StreamPointer = std::shared_ptr<StreamObject>;

Device cuda_device() { return {DeviceType::kCUDA, static_cast<uint8_t>(current_cuda_index())}; }

StreamPointer create_stream(const std::optional<Device>& device, int priority) {
  const Device place = device.value_or(cuda_device());
  check_device(place);
  run_deferred();  // whoever asks for a stream may queue work of its own
  return std::make_shared<StreamObject>(backend(place).create_stream(place.index, priority), true);
}

StreamPointer current_stream(const std::optional<Device>& device) {
  const Device place = device.value_or(cuda_device());
  check_device(place);
  return std::make_shared<StreamObject>(backend(place).current_stream(place.index));
}

// What this thread's `with` blocks around streams found: the stream of that device, and which GPU
// "cuda" meant.
thread_local std::vector<std::pair<Stream, int>> t_entered;

StreamPointer enter_stream(const StreamPointer& stream) {
  const Stream own = stream->get();
  t_entered.emplace_back(stream->device().current_stream(own.device.index), current_cuda_index());
  stream->device().set_current_stream(own);
  if (own.device.is_cuda()) set_current_cuda_index(own.device.index);
  return stream;
}

void leave_stream(const StreamObject&, const pyb::args&) {
  VT_CHECK(!t_entered.empty(), kRuntime, "Stream.__exit__: this thread has not entered a stream");
  const auto [before, index] = t_entered.back();
  t_entered.pop_back();
  backend(before.device).set_current_stream(before);
  if (before.device.is_cuda()) set_current_cuda_index(index);
}

// Made at its first recording, when its device is known.
class EventObject {
 public:
  explicit EventObject(bool timing, bool blocking = false) : timing_(timing), blocking_(blocking) {}
  ~EventObject() {
    if (handle_) backend(device_).destroy_event(handle_);
  }
  EventObject(const EventObject&) = delete;
  EventObject& operator=(const EventObject&) = delete;

  void record(const StreamPointer& stream) {
    const Stream on = stream ? stream->get() : current_stream(std::nullopt)->get();
    if (!handle_) {
      device_ = on.device;
      handle_ = backend(device_).create_event(device_.index, timing_, blocking_);
    }
    VT_CHECK(device_ == on.device, kRuntime, "Event.record: the event belongs to ", device_,
             ", the stream to ", on.device);
    backend(device_).record_event(handle_, on);
  }
  void wait(const StreamPointer& stream) {
    if (!handle_) return;  // never recorded: nothing to wait for
    const Stream on = stream ? stream->get() : current_stream(std::nullopt)->get();
    backend(on.device).wait_event(on, handle_);
  }
  bool query() { return !handle_ || backend(device_).query_event(handle_); }
  void synchronize() {
    if (!handle_) return;
    ReleaseGil release(ReleaseGil::kAlways);
    backend(device_).synchronize_event(handle_);
  }
  std::optional<Device> device() const {
    return handle_ ? std::optional<Device>(device_) : std::nullopt;
  }
  double elapsed(const EventObject& end) {
    VT_CHECK(handle_ && end.handle_, kRuntime,
             "Event.elapsed_time: both events must be recorded first");
    VT_CHECK(timing_ && end.timing_, kRuntime,
             "Event.elapsed_time: both events need enable_timing=True");
    return backend(device_).elapsed_ms(handle_, end.handle_);
  }

 private:
  bool timing_, blocking_;
  Device device_;
  void* handle_ = nullptr;
};
using EventPointer = std::shared_ptr<EventObject>;

void bind_stream_class(pyb::module_& module) {
  pyb::class_<StreamObject, StreamPointer>(module, "Stream", "A queue of work on one device.")
      .def(pyb::init(&create_stream), pyb::arg("device") = pyb::none(), pyb::arg("priority") = 0)
      .def_property_readonly("device", [](const StreamObject& s) { return s.get().device; })
      .def_property_readonly("device_index",
                             [](const StreamObject& s) { return s.get().device.index; })
      .def_property_readonly(
          "cuda_stream",
          [](const StreamObject& s) { return reinterpret_cast<uintptr_t>(s.get().handle); },
          "The cudaStream_t as a number.")
      .def_property_readonly(
          "priority", [](const StreamObject& s) { return s.device().stream_priority(s.get()); },
          "0 is normal, negative more urgent.")
      .def_static(
          "priority_range",
          [] {
            const StreamPriorities range = stream_priorities(current_cuda_index());
            return pyb::make_tuple(range.least, range.greatest);
          },
          "(least, greatest) priority of the current GPU.")
      .def("__enter__", &enter_stream, "Queues this thread's work on it within a block.")
      .def("__exit__", &leave_stream)
      .def(
          "query", [](const StreamObject& s) { return s.device().query_stream(s.get()); },
          "Is its work done?")
      .def(
          "synchronize",
          [](const StreamObject& s) {
            ReleaseGil release(ReleaseGil::kAlways);
            s.device().synchronize_stream(s.get());
          },
          "Waits until its work is done.")
      .def(
          "wait_stream",
          [](const StreamPointer& s, const StreamPointer& other) {
            EventObject event(false);
            event.record(other);
            event.wait(s);
          },
          pyb::arg("stream").none(false),
          "Later work waits for what is queued on the other stream now.")
      .def(
          "wait_event", [](const StreamPointer& s, EventObject& event) { event.wait(s); },
          pyb::arg("event"), "Later work waits for the event.")
      .def(
          "record_event",
          [](const StreamPointer& s, EventPointer event) {
            if (!event) event = std::make_shared<EventObject>(false);
            event->record(s);
            return event;
          },
          pyb::arg("event") = pyb::none(), "Marks the work queued so far.")
      .def("__eq__",
           [](const StreamObject& a, const StreamObject& b) { return a.get() == b.get(); })
      .def("__hash__",
           [](const StreamObject& s) {
             return std::hash<void*>()(s.get().handle) ^ s.get().device.index;
           })
      .def("__repr__", [](const StreamObject& s) {
        return str("<Stream device=", s.get().device, " cuda_stream=", s.get().handle, ">");
      });
}

void bind_event_class(pyb::module_& module) {
  pyb::class_<EventObject, EventPointer>(module, "Event", "A mark in a stream.")
      .def(pyb::init([](bool timing, bool blocking, bool interprocess) {
             VT_CHECK(
                 !interprocess, kRuntime,
                 "Event: all devices belong to one process here; interprocess=True is not needed");
             return std::make_shared<EventObject>(timing, blocking);
           }),
           pyb::arg("enable_timing") = false, pyb::arg("blocking") = false,
           pyb::arg("interprocess") = false)
      .def_property_readonly("device", &EventObject::device,
                             "Where it was recorded; None before that.")
      .def("record", &EventObject::record, pyb::arg("stream") = pyb::none(),
           "Marks what is queued on a stream now.")
      .def("wait", &EventObject::wait, pyb::arg("stream") = pyb::none(),
           "Later work of a stream waits for the mark.")
      .def("query", &EventObject::query, "Has all marked work been done?")
      .def("synchronize", &EventObject::synchronize, "Waits until the marked work is done.")
      .def("elapsed_time", &EventObject::elapsed, pyb::arg("end_event"),
           "Milliseconds between two marks.")
      .def("__repr__", [](const EventObject& e) {
        return e.device() ? str("<Event device=", *e.device(), ">")
                          : std::string("<Event not recorded>");
      });
}

void record_stream(const Tensor& t, const StreamObject& stream) {
  VT_CHECK(t.defined(), kType, "record_stream: expected a Tensor");
  VT_CHECK(t.device() == stream.get().device, kRuntime, "record_stream: the tensor is on ",
           t.device(), ", the stream on ", stream.get().device,
           "; name the stream of the tensor's device that uses it");
  if (t.storage().data())
    backend(t.device()).record_stream(t.device().index, t.storage().data(), stream.get());
}

}  // namespace

void bind_streams(pyb::module_& module) {
  bind_stream_class(module);
  bind_event_class(module);
  module.def("current_stream", &current_stream, pyb::arg("device") = pyb::none(),
             "The stream that this thread queues work of a device on.");
  module.def(
      "default_stream",
      [](const std::optional<Device>& device) {
        const Device place = device.value_or(cuda_device());
        check_device(place);
        return std::make_shared<StreamObject>(Stream{place, nullptr});
      },
      pyb::arg("device") = pyb::none(), "The stream that every thread starts with.");
  module.def(
      "external_stream",
      [](uintptr_t handle, Device place) {
        VT_CHECK(place.is_cuda(), kValue, "ExternalStream: expected a CUDA device, got ", place);
        return std::make_shared<StreamObject>(Stream{place, reinterpret_cast<void*>(handle)});
      },
      pyb::arg("handle"), pyb::arg("device"), "A stream of another library, by its cudaStream_t.");
  module.def(
      "set_stream", [](const StreamObject& s) { s.device().set_current_stream(s.get()); },
      pyb::arg("stream"), "Makes it the stream that this thread queues work of its device on.");
  const pyb::object type = module.attr("Tensor");
  type.attr("record_stream") = pyb::cpp_function(
      &record_stream, pyb::name("record_stream"), pyb::is_method(type), pyb::arg("stream"),
      "Keeps the memory from being reused before the work now queued on the stream is done.");
}

}  // namespace vt::py
