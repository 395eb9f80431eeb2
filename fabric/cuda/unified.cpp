// Unified memory of GPUs: the runtime's managed memory.
#include "fabric/unified.h"

#include <array>
#include <mutex>

#include "base/error.h"
#include "device/capture.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/stream.h"
#include "device/cuda/unit_lock.h"
#include "device/deferred.h"

namespace vt::fabric::cuda {
namespace {

using vt::cuda::DeviceGuard;

// Freed while a graph was being captured: the device could not be waited for then.
struct Dropped {
  std::mutex mutex;
  std::vector<std::pair<int, void*>> blocks;
};

Dropped& dropped() {
  static auto* const instance = new Dropped;
  return *instance;
}

cudaMemLocation location(Device place) {
  cudaMemLocation result{};
  result.type = place.is_cpu() ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice;
  result.id = place.is_cpu() ? 0 : place.index;
  return result;
}

cudaError_t advise_call(UnifiedRange range, cudaMemoryAdvise advice, cudaMemLocation where) {
#if CUDART_VERSION >= 13000
  return cudaMemAdvise(range.data, range.bytes, advice, where);
#else
  return cudaMemAdvise_v2(range.data, range.bytes, advice, where);
#endif
}

cudaError_t prefetch_call(UnifiedRange range, cudaMemLocation where, cudaStream_t stream) {
#if CUDART_VERSION >= 13000
  return cudaMemPrefetchAsync(range.data, range.bytes, where, 0, stream);
#else
  return cudaMemPrefetchAsync_v2(range.data, range.bytes, where, 0, stream);
#endif
}

// Without this the driver moves whole allocations at each launch, and takes no advice.
void require_paging(int index) {
  int supported = 0;
  VT_CUDA(cudaDeviceGetAttribute(&supported, cudaDevAttrConcurrentManagedAccess, index));
  VT_CHECK(supported, kFabric, "unified memory: ", vt::cuda::device_at(index),
           " cannot use it at the same time as the host (no concurrent managed access); use "
           "ordinary tensors there");
}

void free_now(int index, void* data) noexcept {
  std::lock_guard lock(vt::cuda::launch_unit_mutex());
  DeviceGuard guard(index);
  // Peers that read the memory are fenced to a stream of this device (Note [Remote lifetime]).
  (void)cudaDeviceSynchronize();
  if (cudaFree(data) != cudaSuccess) (void)cudaGetLastError();
}

void free_dropped() {
  std::vector<std::pair<int, void*>> blocks;
  {
    std::lock_guard lock(dropped().mutex);
    blocks.swap(dropped().blocks);
  }
  for (const auto& [index, data] : blocks) free_now(index, data);
}

std::optional<Device> place_of(cudaMemLocationType type, int id) {
  if (type == cudaMemLocationTypeDevice) return vt::cuda::device_at(id);
  if (type == cudaMemLocationTypeHost || type == cudaMemLocationTypeHostNuma ||
      type == cudaMemLocationTypeHostNumaCurrent)
    return Device{DeviceType::kCPU, 0};
  return std::nullopt;
}

template <class T>
T ask(UnifiedRange range, cudaMemRangeAttribute attribute) {
  T value{};
  VT_CUDA(cudaMemRangeGetAttribute(&value, sizeof(value), attribute, range.data, range.bytes));
  return value;
}

}  // namespace

void* take_unified(int index, size_t bytes) {
  vt::cuda::require_device(index);
  require_paging(index);
  check_not_capturing("unified_empty", vt::cuda::device_at(index),
                      "its allocation may wait for the device; make the tensor before the capture");
  if (!any_capture()) free_dropped();
  std::lock_guard lock(vt::cuda::launch_unit_mutex());
  DeviceGuard guard(index);
  void* data = nullptr;
  VT_CUDA(cudaMallocManaged(&data, bytes, cudaMemAttachGlobal));
  return data;
}

void give_back_unified(int index, void* data) noexcept {
  if (any_capture()) {
    std::lock_guard lock(dropped().mutex);
    dropped().blocks.emplace_back(index, data);
    return;
  }
  run_deferred();
  free_now(index, data);
}

void advise(int index, UnifiedRange range, Advice advice, Device place) {
  constexpr cudaMemoryAdvise kAdvice[] = {
      cudaMemAdviseSetPreferredLocation, cudaMemAdviseUnsetPreferredLocation,
      cudaMemAdviseSetAccessedBy,        cudaMemAdviseUnsetAccessedBy,
      cudaMemAdviseSetReadMostly,        cudaMemAdviseUnsetReadMostly};
  DeviceGuard guard(index);
  VT_CUDA(advise_call(range, kAdvice[static_cast<int>(advice)], location(place)));
}

void prefetch(int index, UnifiedRange range, Device place) {
  run_deferred();
  check_not_capturing("fabric.prefetch", vt::cuda::device_at(index),
                      "a graph cannot move pages; prefetch before the replay");
  DeviceGuard guard(index);
  VT_CUDA(prefetch_call(range, location(place), vt::cuda::current_stream(index)));
}

Residency residency(int index, UnifiedRange range) {
  DeviceGuard guard(index);
  Residency result;
  result.preferred =
      place_of(ask<cudaMemLocationType>(range, cudaMemRangeAttributePreferredLocationType),
               ask<int>(range, cudaMemRangeAttributePreferredLocationId));
  result.prefetched =
      place_of(ask<cudaMemLocationType>(range, cudaMemRangeAttributeLastPrefetchLocationType),
               ask<int>(range, cudaMemRangeAttributeLastPrefetchLocationId));
  result.read_mostly = ask<int>(range, cudaMemRangeAttributeReadMostly) == 1;
  std::array<int, kMaxDevices> users;
  users.fill(cudaInvalidDeviceId);
  VT_CUDA(cudaMemRangeGetAttribute(users.data(), sizeof(users), cudaMemRangeAttributeAccessedBy,
                                   range.data, range.bytes));
  for (int user : users) {
    if (user == cudaCpuDeviceId) result.accessed_by.push_back({DeviceType::kCPU, 0});
    else if (user >= 0) result.accessed_by.push_back(vt::cuda::device_at(user));
  }
  return result;
}

}  // namespace vt::fabric::cuda
