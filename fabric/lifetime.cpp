// Event fences between the streams of two devices.
#include "fabric/lifetime.h"

#include "base/error.h"
#include "device/capture.h"
#include "fabric/events.h"

namespace vt::fabric {
namespace {

Stream current(Device device) { return backend(device).current_stream(device.index); }

// Work queued on `later` from now on waits for what is queued on `earlier` now.
void order(const char* what, Stream earlier, Stream later) {
  if (earlier == later) return;
  Backend& devices = backend(earlier.device);
  void* const event = devices.create_event(earlier.device.index, false);
  try {
    devices.record_event(event, earlier);
    devices.wait_event(later, event);
  } catch (...) {
    devices.destroy_event(event);
    throw;
  }
  devices.destroy_event(event);  // the wait refers to this recording, whatever becomes of the event
  note(EventKind::kFence, what, later.device, 0);
}

// A capture holds the work of streams that take part in it; a fence to any other is lost.
void check_captures(const char* what, Stream a, Stream b) {
  if (!any_capture()) return;
  const uint64_t captures[] = {backend(a.device).capture_id(a), backend(b.device).capture_id(b)};
  VT_CHECK(
      captures[0] == captures[1], kFabric, what, ": ", a.device, " works on memory of ", b.device,
      ", and their streams are not captured in one graph; capture both devices together, or copy "
      "the tensor with .to() before the capture");
}

}  // namespace

void before_remote_use(const char* what, Device user, Device owner) {
  if (user == owner || !user.is_cuda() || !owner.is_cuda()) return;
  const Stream mine = current(user), theirs = current(owner);
  check_captures(what, mine, theirs);
  order(what, theirs, mine);
}

void after_remote_use(const char* what, Device user, const Tensor& memory) {
  const Device owner = memory.device();
  if (user == owner || !user.is_cuda() || !owner.is_cuda()) return;
  const Stream theirs = current(owner);
  order(what, current(user), theirs);
  hold_for(memory, theirs);
}

void hold_for(const Tensor& memory, Stream stream) {
  const Storage& storage = memory.storage();
  if (!storage.device().is_cuda() || storage.wrapped() || storage.data() == nullptr) return;
  backend(storage.device()).record_stream(storage.device().index, storage.data(), stream);
}

}  // namespace vt::fabric
