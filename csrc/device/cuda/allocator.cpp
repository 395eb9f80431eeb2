// CUDA as the caching allocator's source of memory.
#include "device/cuda/allocator.h"

#include <array>
#include <atomic>
#include <mutex>

#include "base/error.h"
#include "device/caching_allocator.h"
#include "device/cuda/capture_mode.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/event.h"
#include "device/cuda/stream.h"
#include "device/cuda/unit_lock.h"

namespace vt {
namespace cuda {
namespace {

class CudaMemory final : public MemorySource {
 public:
  explicit CudaMemory(int index) : index_(index) {}

  void* take(size_t bytes) override {
    DeviceGuard guard(index_);
    RelaxedCapture relaxed;
    std::lock_guard unit(launch_unit_mutex());
    void* data = nullptr;
    const cudaError_t code = cudaMalloc(&data, bytes);
    if (code == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      return nullptr;
    }
    VT_CUDA(code);
    return data;
  }

  void give_back(void* data, size_t) noexcept override {
    try {
      DeviceGuard guard(index_);
      RelaxedCapture relaxed;
      std::lock_guard unit(launch_unit_mutex());
      if (cudaFree(data) != cudaSuccess) (void)cudaGetLastError();
    } catch (const Error&) {  // the context is lost, and the memory with it
    }
  }

  Capacity capacity() override {
    DeviceGuard guard(index_);
    RelaxedCapture relaxed;
    Capacity result{};
    VT_CUDA(cudaMemGetInfo(&result.free, &result.total));
    return result;
  }

  void* make_fence(void* stream) noexcept override {
    try {
      Event* event = create_event(index_, false);
      record_event(*event, {device_at(index_), stream});
      return event;
    } catch (const Error&) {  // the context is lost: nothing runs that the fence could wait for
      return nullptr;
    }
  }
  bool passed(void* fence) noexcept override {
    try {
      RelaxedCapture relaxed;  // a stream of another device may be capturing
      return query_event(*static_cast<Event*>(fence));
    } catch (const Error&) { return true; }
  }
  void wait(void* fence) noexcept override {
    try {
      RelaxedCapture relaxed;
      synchronize_event(*static_cast<Event*>(fence));
    } catch (const Error&) {}
  }
  void drop_fence(void* fence) noexcept override { destroy_event(static_cast<Event*>(fence)); }

  uint64_t capture_of(void* stream) noexcept override {
    if (stream == nullptr) return 0;  // the default stream cannot be captured
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    unsigned long long id = 0;
    if (cudaStreamGetCaptureInfo(static_cast<cudaStream_t>(stream), &status, &id) != cudaSuccess) {
      (void)cudaGetLastError();
      return 0;
    }
    return status == cudaStreamCaptureStatusActive ? id : 0;
  }

 private:
  int index_;
};

struct PerDevice {
  explicit PerDevice(int index) : source(index), allocator(device_at(index), source) {}
  CudaMemory source;
  CachingAllocator allocator;
};

// Never destroyed: tensors may be freed while the process ends.
std::array<std::atomic<PerDevice*>, kMaxDevices> g_devices{};

VT_NOINLINE CachingAllocator& make_allocator(int index) {
  require_device(index);
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  if (g_devices[index] == nullptr) g_devices[index] = new PerDevice(index);
  return g_devices[index].load()->allocator;
}

CachingAllocator& allocator(int index) {
  if (PerDevice* own = g_devices[index].load(std::memory_order_acquire); VT_LIKELY(own != nullptr))
    return own->allocator;
  return make_allocator(index);
}

}  // namespace

std::mutex& launch_unit_mutex() {
  static auto* const mutex = new std::mutex;
  return *mutex;
}

void* allocate(int index, size_t bytes) {
  return allocator(index).allocate(bytes, current_stream(index));
}
void deallocate(int index, void* data) noexcept { allocator(index).deallocate(data); }
void record_stream(int index, void* data, Stream stream) {
  allocator(index).record_stream(data, stream.handle);
}
MemoryStats memory_stats(int index) { return allocator(index).stats(); }
void reset_peak_memory(int index) { allocator(index).reset_peak(); }
void empty_cache(int index) { allocator(index).empty_cache(); }

uint64_t create_memory_pool(int index) { return allocator(index).create_pool(); }
void retain_memory_pool(int index, uint64_t pool) { allocator(index).retain_pool(pool); }
void release_memory_pool(int index, uint64_t pool) { allocator(index).release_pool(pool); }
void begin_memory_pool(uint64_t pool, Stream stream) {
  VT_CHECK(stream.handle != nullptr, kRuntime, "begin_pool: the default stream of ", stream.device,
           " cannot be captured; use a created stream");
  allocator(stream.device.index).begin_pool(pool, stream.handle);
}
void end_memory_pool(uint64_t pool, Stream stream) {
  allocator(stream.device.index).end_pool(pool, stream.handle);
}

}  // namespace cuda
}  // namespace vt
