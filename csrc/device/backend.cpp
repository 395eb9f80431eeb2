// Which devices exist, and byte copies between any two of them.
#include "device/backend.h"

#include <atomic>
#include <cstring>

#include "base/env.h"
#include "base/error.h"
#include "device/deferred.h"

namespace vt {

std::atomic<void (*)()> g_run_deferred{nullptr};

namespace {

std::atomic<int>& cpu_count() {
  static std::atomic<int> count{env::cpu_devices()};
  return count;
}

thread_local int t_cuda_index = 0;

std::atomic<CopyObserver> g_copy_observer{nullptr};

}  // namespace

int device_count(DeviceType type) {
  return type == DeviceType::kCPU ? cpu_count().load(std::memory_order_relaxed)
                                  : cuda_backend().count();
}

void set_cpu_devices(int count) {
  VT_CHECK(count >= 1 && count <= kMaxDevices, kValue, "set_cpu_devices: expected 1 to ",
           kMaxDevices, ", got ", count);
  cpu_count().store(count);
}

void check_device(Device device) {
  const int count = device_count(device.type);
  if (VT_LIKELY(device.index < count)) return;
  if (device.is_cpu())
    fail(ErrorKind::kRuntime, "device: ", device, " does not exist, the process has ", count,
         " CPU device(s); ask for more with vibetensor.set_cpu_devices(n) or "
         "VIBETENSOR_CPU_DEVICES=n");
  if (count == 0)
    fail(ErrorKind::kRuntime, "device: ", device, " does not exist: ", cuda_unavailable_reason());
  fail(ErrorKind::kRuntime, "device: ", device,
       " does not exist, the machine has cuda:0 to cuda:", count - 1);
}

int current_cuda_index() { return t_cuda_index; }

void set_current_cuda_index(int index) {
  VT_CHECK(index >= 0 && index < kMaxDevices, kRuntime, "device: index ", index,
           " is out of range");
  check_device({DeviceType::kCUDA, static_cast<uint8_t>(index)});
  t_cuda_index = index;
}

void copy_bytes(void* dst, Device dst_device, const void* src, Device src_device, size_t bytes,
                bool non_blocking) {
  if (bytes == 0) return;
  run_deferred();
  if (dst_device.is_cpu() && src_device.is_cpu()) {
    cpu_backend().copy(dst, dst_device, src, src_device, bytes, non_blocking);
  } else {
    cuda_backend().copy(dst, dst_device, src, src_device, bytes, non_blocking);
  }
  if (dst_device == src_device) return;
  if (const CopyObserver observer = g_copy_observer.load(std::memory_order_relaxed))
    observer(dst_device, src_device, bytes);
}

void observe_copies(CopyObserver observer) {
  g_copy_observer.store(observer, std::memory_order_relaxed);
}

void order_streams(Stream earlier, Stream later) {
  if (earlier == later || earlier.device.is_cpu()) return;
  Backend& own = backend(earlier.device);
  void* const event = own.create_event(earlier.device.index, false);
  try {
    own.record_event(event, earlier);
    own.wait_event(later, event);
  } catch (...) {
    own.destroy_event(event);
    throw;
  }
  own.destroy_event(event);
}

}  // namespace vt
