// Making the allocators, at the first use of a device.
#include "device/cuda/allocator.h"

#include <array>
#include <atomic>
#include <memory>
#include <mutex>

#include "base/env.h"
#include "base/error.h"
#include "device/caching_allocator.h"
#include "device/capture.h"
#include "device/cuda/device.h"
#include "device/cuda/driver_allocator.h"
#include "device/cuda/graph.h"
#include "device/cuda/memory_source.h"
#include "device/cuda/stream.h"
#include "device/cuda/unit_lock.h"

namespace vt::cuda {
namespace {

// Never destroyed: tensors may be freed while the process ends.
std::array<std::atomic<DeviceAllocator*>, kMaxDevices> g_allocators{};

VT_NOINLINE DeviceAllocator& make_allocator(int index) {
  require_device(index);
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  if (g_allocators[index] == nullptr) {
    const std::string kind = env::cuda_allocator();
    if (kind == "driver") {
      g_allocators[index] = new DriverAllocator(index);
    } else {
      auto source = std::make_unique<CudaMemory>(index);
      g_allocators[index] = new CachingAllocator(device_at(index), *source, kind == "expandable");
      (void)source.release();
    }
  }
  return *g_allocators[index].load();
}

}  // namespace

std::mutex& launch_unit_mutex() {
  static auto* const mutex = new std::mutex;
  return *mutex;
}

DeviceAllocator& allocator(int index) {
  if (DeviceAllocator* own = g_allocators[index].load(std::memory_order_acquire);
      VT_LIKELY(own != nullptr))
    return *own;
  return make_allocator(index);
}

void* allocate(int index, size_t bytes) {
  if (any_capture()) check_captured_device(index);
  return allocator(index).allocate(bytes, current_stream(index));
}
void deallocate(int index, void* data) noexcept { allocator(index).deallocate(data); }

}  // namespace vt::cuda
