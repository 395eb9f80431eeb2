// Requests to the driver's pool, and what is counted about them.
#include "device/cuda/driver_allocator.h"

#include <algorithm>

#include "base/error.h"
#include "device/caching_allocator.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/event.h"
#include "device/cuda/gpu_users.h"
#include "device/cuda/stream.h"
#include "device/profiler.h"

namespace vt::cuda {
namespace {

[[noreturn]] void not_here(const char* what) {
  fail(ErrorKind::kRuntime, what,
       ": the allocator chosen with VIBETENSOR_CUDA_ALLOCATOR=driver has no such thing; start the "
       "process without it");
}

}  // namespace

DriverAllocator::DriverAllocator(int index) : index_(index) {
  DeviceGuard guard(index);
  cudaMemPool_t pool = nullptr;
  VT_CUDA(cudaDeviceGetDefaultMemPool(&pool, index));
  uint64_t keep = ~uint64_t{0};  // gives nothing back by itself
  VT_CUDA(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
  pool_ = pool;
}

void* DriverAllocator::allocate(size_t bytes, void* stream) {
  DeviceGuard guard(index_);
  std::lock_guard lock(mutex_);
  void* data = nullptr;
  const cudaError_t code = cudaMallocFromPoolAsync(&data, bytes, static_cast<cudaMemPool_t>(pool_),
                                                   static_cast<cudaStream_t>(stream));
  if (code == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    ++stats_.failures;
    size_t free = 0, total = 0;
    VT_CUDA(cudaMemGetInfo(&free, &total));
    update_reserved();
    const auto now = [](const Gauge& gauge) { return static_cast<size_t>(gauge.current); };
    const size_t live = now(stats_.allocated.bytes[0]), reserved = now(stats_.reserved.bytes[0]);
    const std::string users = other_users(index_);
    fail(ErrorKind::kOutOfMemory, "cuda:", index_, " is out of memory: cannot allocate ",
         readable_bytes(bytes), "; ", readable_bytes(free), " of ", readable_bytes(total),
         " are free, live tensors hold ", readable_bytes(live), ", the driver's pool has reserved ",
         readable_bytes(reserved), users.empty() ? "" : ", the GPU is also used by " + users,
         bytes > total ? "; the request is larger than the device: are the sizes right?"
         : reserved > live && reserved - live >= bytes
             ? "; memory that the pool keeps lies between live tensors or is in use on another "
               "stream: the process's own allocator (without VIBETENSOR_CUDA_ALLOCATOR=driver) "
               "tells more"
             : "; use a smaller batch or fewer live tensors");
  }
  VT_CUDA(code);
  live_.emplace(data, Allocation{bytes, stream, {}});
  const auto size = static_cast<int64_t>(bytes);
  stats_.allocated.add(false, size);
  stats_.active.add(false, size);
  stats_.requested[0].add(size);
  stats_.requested[2].add(size);
  if (profiler::wants_memory()) tell_profiler(data, size);
  return data;
}

void DriverAllocator::deallocate(void* data) noexcept {
  try {
    DeviceGuard guard(index_);
    std::lock_guard lock(mutex_);
    const auto found = live_.find(data);
    if (found == live_.end()) return;  // not ours: nothing can be done in a destructor
    const Allocation own = std::move(found->second);
    live_.erase(found);
    for (void* use : own.uses)
      order_streams({device_at(index_), use}, {device_at(index_), own.stream});
    const auto size = static_cast<int64_t>(own.bytes);
    stats_.allocated.subtract(false, size);
    stats_.active.subtract(false, size);
    stats_.requested[0].subtract(size);
    stats_.requested[2].subtract(size);
    if (profiler::wants_memory()) tell_profiler(data, -size);
    VT_CUDA(cudaFreeAsync(data, static_cast<cudaStream_t>(own.stream)));
  } catch (const Error&) {  // the context is lost, and the memory with it
  }
}

void DriverAllocator::record_stream(void* data, void* stream) {
  std::lock_guard lock(mutex_);
  const auto found = live_.find(data);
  VT_CHECK(found != live_.end(), kRuntime,
           "record_stream: the memory is not from the allocator of cuda:", index_,
           "; keep memory of other owners alive until its work is done");
  auto& uses = found->second.uses;
  if (found->second.stream != stream && std::find(uses.begin(), uses.end(), stream) == uses.end())
    uses.push_back(stream);
}

void DriverAllocator::empty_cache() {
  DeviceGuard guard(index_);
  VT_CUDA(cudaDeviceSynchronize());
  VT_CUDA(cudaMemPoolTrimTo(static_cast<cudaMemPool_t>(pool_), 0));
}

void DriverAllocator::set_limit(double) { not_here("set_per_process_memory_fraction"); }

void DriverAllocator::tell_profiler(const void* data, int64_t bytes) const {
  update_reserved();
  profiler::note_memory(device_at(index_), data, bytes, stats_.allocated.bytes[0].current,
                        stats_.reserved.bytes[0].current);
}

void DriverAllocator::update_reserved() const {
  DeviceGuard guard(index_);
  uint64_t now = 0, peak = 0;
  auto* pool = static_cast<cudaMemPool_t>(pool_);
  VT_CUDA(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &now));
  VT_CUDA(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemHigh, &peak));
  for (int which : {0, 2}) {
    Gauge& gauge = stats_.reserved.bytes[which];
    // The driver tells what is held and the peak; what came and went between two questions is not
    // in the sum.
    gauge.added += std::max<int64_t>(static_cast<int64_t>(now) - gauge.current, 0);
    gauge.current = static_cast<int64_t>(now);
    gauge.peak = static_cast<int64_t>(peak);
  }
}

MemoryStats DriverAllocator::stats() const {
  std::lock_guard lock(mutex_);
  update_reserved();
  MemoryStats result;
  result.allocated = static_cast<size_t>(stats_.allocated.bytes[0].current);
  result.peak_allocated = static_cast<size_t>(stats_.allocated.bytes[0].peak);
  result.reserved = static_cast<size_t>(stats_.reserved.bytes[0].current);
  result.peak_reserved = static_cast<size_t>(stats_.reserved.bytes[0].peak);
  result.allocations = static_cast<uint64_t>(stats_.allocated.count[0].added);
  return result;
}

NamedCounters DriverAllocator::counters() const {
  std::lock_guard lock(mutex_);
  update_reserved();
  return named_counters(stats_);
}

void DriverAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.for_each_gauge([](Gauge& gauge) { gauge.reset_peak(); });
  DeviceGuard guard(index_);
  uint64_t zero = 0;
  VT_CUDA(cudaMemPoolSetAttribute(static_cast<cudaMemPool_t>(pool_), cudaMemPoolAttrReservedMemHigh,
                                  &zero));
}

void DriverAllocator::reset_sums() {
  std::lock_guard lock(mutex_);
  stats_.for_each_gauge([](Gauge& gauge) { gauge.reset_sums(); });
  stats_.failures = 0;
}

MemorySnapshot DriverAllocator::snapshot() const { not_here("memory_snapshot"); }
void DriverAllocator::record_history(size_t, MemoryHistory::StackSource) {
  not_here("record_memory_history");
}
void DriverAllocator::stop_history() { not_here("record_memory_history"); }

uint64_t DriverAllocator::create_pool() { not_here("graph capture"); }
void DriverAllocator::retain_pool(uint64_t) { not_here("graph capture"); }
void DriverAllocator::release_pool(uint64_t) { not_here("graph capture"); }
void DriverAllocator::begin_pool(uint64_t, void*) { not_here("graph capture"); }
int64_t DriverAllocator::end_pool(uint64_t, void*) { not_here("graph capture"); }
void DriverAllocator::count_pool(uint64_t, int64_t) { not_here("graph capture"); }

}  // namespace vt::cuda
