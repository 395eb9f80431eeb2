// The event pool.
#include "device/cuda/event.h"

#include <mutex>
#include <vector>

#include "base/error.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/graph.h"
#include "device/cuda/stream.h"

namespace vt::cuda {
namespace {

struct Pool {
  std::mutex mutex;
  std::vector<Event*> idle[2][2];  // by timing and blocking
};

Pool& pool(int index) {
  static auto* const pools = new Pool[kMaxDevices];
  return pools[index];
}

// The driver drops a capture in which such an event is asked.
void check_real(const char* op, const Event& event) {
  if (VT_UNLIKELY(event.captured))
    refuse_in_capture(op,
                      "the event was recorded while capturing, it marks no moment of a replay; "
                      "record one around the replay");
}

}  // namespace

Event* create_event(int index, bool timing, bool blocking) {
  require_device(index);
  Pool& own = pool(index);
  {
    std::lock_guard lock(own.mutex);
    auto& idle = own.idle[timing][blocking];
    if (!idle.empty()) {
      Event* event = idle.back();
      idle.pop_back();
      event->recorded = event->captured = false;
      return event;
    }
  }
  DeviceGuard guard(index);
  cudaEvent_t handle = nullptr;
  const unsigned flags = (timing ? cudaEventDefault : cudaEventDisableTiming) |
                         (blocking ? cudaEventBlockingSync : cudaEventDefault);
  VT_CUDA(cudaEventCreateWithFlags(&handle, flags));
  return new Event{handle, index, timing, blocking};
}

void destroy_event(Event* event) {
  Pool& own = pool(event->device);
  std::lock_guard lock(own.mutex);
  own.idle[event->timing][event->blocking].push_back(event);
}

void record_event(Event& event, Stream stream) {
  VT_CHECK(stream.device == device_at(event.device), kRuntime,
           "event.record: the event belongs to cuda:", event.device, ", the stream to ",
           stream.device, "; make the event on the stream's device");
  DeviceGuard guard(event.device);
  VT_CUDA(cudaEventRecord(event.handle, handle_of(stream)));
  event.recorded = true;
  event.captured = any_capture() && capture_id(stream) != 0;
}

void wait_event(Stream stream, const Event& event) {
  if (!event.recorded) return;
  VT_CHECK(stream.device.is_cuda(), kRuntime, "stream.wait_event: a CUDA event cannot hold up ",
           stream.device, "; call event.synchronize()");
  DeviceGuard guard(stream.device.index);
  VT_CUDA(cudaStreamWaitEvent(handle_of(stream), event.handle, 0));
}

bool query_event(const Event& event) {
  if (!event.recorded) return true;
  check_real("event.query", event);
  DeviceGuard guard(event.device);
  const cudaError_t code = cudaEventQuery(event.handle);
  if (code == cudaErrorNotReady) {
    (void)cudaGetLastError();
    return false;
  }
  VT_CUDA(code);
  return true;
}

void synchronize_event(const Event& event) {
  if (!event.recorded) return;
  check_real("event.synchronize", event);
  DeviceGuard guard(event.device);
  VT_CUDA(cudaEventSynchronize(event.handle));
}

double elapsed_ms(const Event& start, const Event& end) {
  VT_CHECK(start.timing && end.timing, kRuntime,
           "event.elapsed_time: make both events with enable_timing=True");
  VT_CHECK(start.recorded && end.recorded, kRuntime,
           "event.elapsed_time: record both events first");
  VT_CHECK(start.device == end.device, kRuntime,
           "event.elapsed_time: events of cuda:", start.device, " and cuda:", end.device,
           " have no common clock");
  check_real("event.elapsed_time", start);
  check_real("event.elapsed_time", end);
  DeviceGuard guard(start.device);
  float ms = 0;
  const cudaError_t code = cudaEventElapsedTime(&ms, start.handle, end.handle);
  if (code == cudaErrorNotReady) {
    (void)cudaGetLastError();
    fail(ErrorKind::kRuntime,
         "event.elapsed_time: the work before the events is not done; synchronize first");
  }
  VT_CUDA(code);
  return ms;
}

}  // namespace vt::cuda
