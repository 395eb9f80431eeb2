// The calls of the runtime behind the allocator. Every one that may wait for the device holds the
// lock of launch units.
#include "device/cuda/memory_source.h"

#include "base/error.h"
#include "device/cuda/capture_mode.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/event.h"
#include "device/cuda/gpu_users.h"
#include "device/cuda/pages.h"
#include "device/cuda/stream.h"
#include "device/cuda/unit_lock.h"

namespace vt::cuda {

void* CudaMemory::take(size_t bytes) {
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

void CudaMemory::give_back(void* data, size_t) noexcept {
  try {
    DeviceGuard guard(index_);
    RelaxedCapture relaxed;
    std::lock_guard unit(launch_unit_mutex());
    if (cudaFree(data) != cudaSuccess) (void)cudaGetLastError();
  } catch (const Error&) {  // the context is lost, and the memory with it
  }
}

MemorySource::Capacity CudaMemory::capacity() {
  DeviceGuard guard(index_);
  RelaxedCapture relaxed;
  Capacity result{};
  VT_CUDA(cudaMemGetInfo(&result.free, &result.total));
  return result;
}

std::string CudaMemory::other_users() { return cuda::other_users(index_); }

size_t CudaMemory::page() { return page_bytes(index_); }

void* CudaMemory::reserve(size_t bytes) {
  DeviceGuard guard(index_);
  VT_CUDA(cudaFree(nullptr));  // starts the device's context
  return reserve_addresses(bytes);
}

bool CudaMemory::map(void* data, size_t bytes) {
  DeviceGuard guard(index_);
  RelaxedCapture relaxed;
  std::lock_guard unit(launch_unit_mutex());
  return map_pages(index_, data, bytes);
}

void CudaMemory::unmap(void* data, size_t bytes) noexcept {
  try {
    DeviceGuard guard(index_);
    RelaxedCapture relaxed;
    std::lock_guard unit(launch_unit_mutex());
    // Unlike cudaFree, unmapping does not wait for kernels by itself.
    if (cudaDeviceSynchronize() != cudaSuccess) (void)cudaGetLastError();
    unmap_pages(index_, data, bytes);
  } catch (const Error&) {  // the context is lost
  }
}

void CudaMemory::unreserve(void* data, size_t bytes) noexcept { free_addresses(data, bytes); }

void* CudaMemory::make_fence(void* stream) noexcept {
  try {
    Event* event = create_event(index_, false);
    record_event(*event, {device_at(index_), stream});
    return event;
  } catch (const Error&) {  // the context is lost: nothing runs that the fence could wait for
    return nullptr;
  }
}

bool CudaMemory::passed(void* fence) noexcept {
  try {
    RelaxedCapture relaxed;  // a stream of another device may be capturing
    return query_event(*static_cast<Event*>(fence));
  } catch (const Error&) { return true; }
}

void CudaMemory::wait(void* fence) noexcept {
  try {
    RelaxedCapture relaxed;
    synchronize_event(*static_cast<Event*>(fence));
  } catch (const Error&) {}
}

void CudaMemory::drop_fence(void* fence) noexcept { destroy_event(static_cast<Event*>(fence)); }

uint64_t CudaMemory::capture_of(void* stream) noexcept {
  if (stream == nullptr) return 0;  // the default stream cannot be captured
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  if (cudaStreamGetCaptureInfo(static_cast<cudaStream_t>(stream), &status, &id) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return status == cudaStreamCaptureStatusActive ? id : 0;
}

}  // namespace vt::cuda
