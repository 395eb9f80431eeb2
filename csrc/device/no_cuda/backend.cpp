// The CUDA backend of a build without CUDA: there are no devices, and whatever asks for one is told
// why.
#include "device/backend.h"

#include "base/error.h"
#include "device/graph.h"

namespace vt {
namespace {

[[noreturn]] void unavailable() { fail(ErrorKind::kRuntime, "cuda: ", cuda_unavailable_reason()); }

class NoCudaBackend final : public Backend {
 public:
  int count() override { return 0; }
  DeviceProperties properties(int) override { unavailable(); }
  MemoryStats memory_stats(int) override { unavailable(); }
  void reset_peak_memory(int) override { unavailable(); }
  void empty_cache(int) override { unavailable(); }
  DeviceAllocator& device_allocator(int) override { unavailable(); }
  FreeMemory free_memory(int) override { unavailable(); }
  bool can_access_peer(int, int) override { unavailable(); }
  void* allocate(int, size_t) override { unavailable(); }
  void deallocate(int, void*, size_t) override { unavailable(); }
  void record_stream(int, void*, Stream) override { unavailable(); }
  uint64_t create_memory_pool(int) override { unavailable(); }
  void retain_memory_pool(int, uint64_t) override { unavailable(); }
  void release_memory_pool(int, uint64_t) override { unavailable(); }
  void begin_memory_pool(uint64_t, Stream) override { unavailable(); }
  int64_t end_memory_pool(uint64_t, Stream) override { unavailable(); }
  void count_memory_pool(int, uint64_t, int64_t) override { unavailable(); }
  void copy(void*, Device, const void*, Device, size_t, bool) override { unavailable(); }
  void copy_many(int, std::span<const Copy>) override { unavailable(); }
  void zero(int, void*, size_t) override { unavailable(); }
  Stream current_stream(int) override { unavailable(); }
  void set_current_stream(Stream) override { unavailable(); }
  Stream create_stream(int, int) override { unavailable(); }
  void destroy_stream(Stream) override { unavailable(); }
  int stream_priority(Stream) override { unavailable(); }
  bool query_stream(Stream) override { unavailable(); }
  void synchronize_stream(Stream) override { unavailable(); }
  void synchronize(int) override { unavailable(); }
  void* create_event(int, bool, bool) override { unavailable(); }
  void destroy_event(void*) override { unavailable(); }
  void record_event(void*, Stream) override { unavailable(); }
  void wait_event(Stream, void*) override { unavailable(); }
  bool query_event(void*) override { unavailable(); }
  void synchronize_event(void*) override { unavailable(); }
  double elapsed_ms(void*, void*) override { unavailable(); }
  void* allocate_pinned(size_t) override { unavailable(); }
  void deallocate_pinned(void*, size_t) override { unavailable(); }
  bool is_pinned(const void*) override { return false; }
  std::unique_ptr<Graph> make_graph(int) override { unavailable(); }
  uint64_t capture_id(Stream) override { return 0; }
  void write_words(int, uint64_t*, const uint64_t*, int) override { unavailable(); }
};

}  // namespace

Backend& cuda_backend() {
  static NoCudaBackend instance;
  return instance;
}

std::string cuda_unavailable_reason() {
  return "this build of vibetensor has no CUDA; install a CUDA toolkit with nvcc and build again, "
         "or use cpu devices";
}

}  // namespace vt
