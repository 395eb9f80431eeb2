// The CUDA backend: every piece of this folder behind the one interface that the floors above know.
#include "device/backend.h"

#include "device/cuda/allocator.h"
#include "device/cuda/check.h"
#include "device/cuda/copy.h"
#include "device/cuda/device.h"
#include "device/cuda/event.h"
#include "device/cuda/fault.h"
#include "device/cuda/graph.h"
#include "device/cuda/memory_source.h"
#include "device/cuda/pinned.h"
#include "device/cuda/stream.h"
#include "device/deferred.h"

namespace vt {
namespace {

class CudaBackend final : public Backend {
 public:
  int count() override { return cuda::count(); }
  DeviceProperties properties(int index) override { return cuda::properties(index); }
  MemoryStats memory_stats(int index) override { return cuda::allocator(index).stats(); }
  void reset_peak_memory(int index) override { cuda::allocator(index).reset_peak(); }
  void empty_cache(int index) override { cuda::allocator(index).empty_cache(); }
  DeviceAllocator& device_allocator(int index) override { return cuda::allocator(index); }
  FreeMemory free_memory(int index) override {
    cuda::require_device(index);
    const MemorySource::Capacity found = cuda::CudaMemory(index).capacity();
    return {found.free, found.total};
  }
  bool can_access_peer(int index, int other) override {
    cuda::require_device(index);
    cuda::require_device(other);
    int can = 0;
    if (index != other) VT_CUDA(cudaDeviceCanAccessPeer(&can, index, other));
    return can != 0;
  }

  void* allocate(int index, size_t bytes) override { return cuda::allocate(index, bytes); }
  void deallocate(int index, void* data, size_t) override { cuda::deallocate(index, data); }
  void record_stream(int index, void* data, Stream stream) override {
    VT_CHECK(stream.device == cuda::device_at(index), kRuntime, "record_stream: the memory is on ",
             cuda::device_at(index), ", the stream on ", stream.device,
             "; name the stream of the memory's device that uses it");
    cuda::allocator(index).record_stream(data, stream.handle);
  }

  uint64_t create_memory_pool(int index) override { return cuda::allocator(index).create_pool(); }
  void retain_memory_pool(int index, uint64_t pool) override {
    cuda::allocator(index).retain_pool(pool);
  }
  void release_memory_pool(int index, uint64_t pool) override {
    cuda::allocator(index).release_pool(pool);
  }
  void begin_memory_pool(uint64_t pool, Stream stream) override {
    VT_CHECK(stream.handle != nullptr, kRuntime, "begin_pool: the default stream of ",
             stream.device, " cannot be captured; use a created stream");
    cuda::allocator(stream.device.index).begin_pool(pool, stream.handle);
  }
  int64_t end_memory_pool(uint64_t pool, Stream stream) override {
    return cuda::allocator(stream.device.index).end_pool(pool, stream.handle);
  }
  void count_memory_pool(int index, uint64_t pool, int64_t bytes) override {
    cuda::allocator(index).count_pool(pool, bytes);
  }

  void copy(void* dst, Device dst_device, const void* src, Device src_device, size_t bytes,
            bool non_blocking) override {
    run_deferred();
    cuda::copy_memory(dst, dst_device, src, src_device, bytes, non_blocking);
  }
  void copy_many(int index, std::span<const Copy> copies) override {
    run_deferred();
    cuda::copy_many(index, copies);
  }
  void zero(int index, void* data, size_t bytes) override {
    run_deferred();
    cuda::DeviceGuard guard(index);
    const cudaError_t code = cudaMemsetAsync(data, 0, bytes, cuda::current_stream(index));
    if (VT_UNLIKELY(code != cudaSuccess)) cuda::fail_launch("zeros", code);
  }

  Stream current_stream(int index) override {
    cuda::require_device(index);
    return {cuda::device_at(index), cuda::current_stream(index)};
  }
  void set_current_stream(Stream stream) override {
    run_deferred();
    cuda::set_current_stream(stream);
  }
  Stream create_stream(int index, int priority) override {
    return cuda::create_stream(index, priority);
  }
  void destroy_stream(Stream stream) override { cuda::destroy_stream(stream); }
  int stream_priority(Stream stream) override { return cuda::stream_priority(stream); }
  bool query_stream(Stream stream) override { return cuda::query_stream(stream); }
  void synchronize_stream(Stream stream) override {
    run_deferred();
    cuda::synchronize_stream(stream);
    cuda::check_faults(stream.device.index);
  }
  void synchronize(int index) override {
    run_deferred();
    cuda::require_device(index);
    if (any_capture())
      refuse_in_capture("synchronize",
                        "it waits for the whole device, of which a stream is being "
                        "captured; synchronize a stream or an event");
    cuda::DeviceGuard guard(index);
    VT_CUDA(cudaDeviceSynchronize());
    cuda::check_faults(index);
  }

  void check_faults(int index) override { cuda::check_faults(index); }

  void* create_event(int index, bool timing, bool blocking) override {
    return cuda::create_event(index, timing, blocking);
  }
  void destroy_event(void* event) override { cuda::destroy_event(of(event)); }
  void record_event(void* event, Stream stream) override {
    run_deferred();
    cuda::record_event(*of(event), stream);
  }
  void wait_event(Stream stream, void* event) override { cuda::wait_event(stream, *of(event)); }
  bool query_event(void* event) override { return cuda::query_event(*of(event)); }
  void synchronize_event(void* event) override {
    cuda::synchronize_event(*of(event));
    cuda::check_faults(of(event)->device);
  }
  double elapsed_ms(void* start, void* end) override {
    return cuda::elapsed_ms(*of(start), *of(end));
  }

  void* allocate_pinned(size_t bytes) override { return cuda::allocate_pinned(bytes); }
  void deallocate_pinned(void* data, size_t) override { cuda::deallocate_pinned(data); }
  bool is_pinned(const void* data) override { return cuda::is_pinned(data); }
  bool follow_pinned_uses(const void* data, Stream stream) override {
    return cuda::follow_pinned_uses(data, stream);
  }

  std::unique_ptr<Graph> make_graph(int index) override {
    cuda::require_device(index);
    return std::make_unique<cuda::CudaGraph>(index);
  }
  uint64_t capture_id(Stream stream) override { return cuda::capture_id(stream); }
  void write_words(int index, uint64_t* dst, const uint64_t* words, int count) override {
    cuda::write_words(index, dst, words, count);
  }

 private:
  static cuda::Event* of(void* event) { return static_cast<cuda::Event*>(event); }
};

}  // namespace

Backend& cuda_backend() {
  static auto* const instance = new CudaBackend;
  return *instance;
}

std::string cuda_unavailable_reason() { return cuda::unavailable_reason(); }

}  // namespace vt
