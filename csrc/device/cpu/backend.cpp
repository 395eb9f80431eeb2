// CPU devices: memory from a cache of size classes, everything synchronous, so streams and events
// are trivial.
#include <sys/sysinfo.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "device/backend.h"
#include "device/cpu/memory.h"
#include "device/cpu/parallel.h"
#include "device/graph.h"

namespace vt {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void no_pools() {
  fail(ErrorKind::kRuntime,
       "memory pool: private pools serve graph capture, which needs a CUDA device");
}

struct sysinfo memory_of_machine() {
  struct sysinfo info{};
  sysinfo(&info);
  return info;
}

class CpuBackend final : public Backend {
 public:
  int count() override { return device_count(DeviceType::kCPU); }

  DeviceProperties properties(int) override {
    const struct sysinfo info = memory_of_machine();
    DeviceProperties result;
    result.name = "CPU";
    result.total_memory = static_cast<size_t>(info.totalram) * info.mem_unit;
    result.multiprocessors = static_cast<int>(std::thread::hardware_concurrency());
    return result;
  }

  MemoryStats memory_stats(int) override { return cpu::memory_stats(); }
  void reset_peak_memory(int) override { cpu::reset_peak_memory(); }
  void empty_cache(int) override { cpu::empty_cache(); }
  DeviceAllocator& device_allocator(int) override {
    fail(ErrorKind::kRuntime,
         "memory: counters by size, snapshots, history and limits are of CUDA devices");
  }
  FreeMemory free_memory(int) override {
    const struct sysinfo info = memory_of_machine();
    return {static_cast<size_t>(info.freeram) * info.mem_unit,
            static_cast<size_t>(info.totalram) * info.mem_unit};
  }
  bool can_access_peer(int, int) override { return true; }  // all are the host's memory
  void* allocate(int, size_t bytes) override { return cpu::allocate(bytes); }
  void deallocate(int, void* data, size_t bytes) override { cpu::deallocate(data, bytes); }
  void record_stream(int, void*, Stream) override {}  // CPU work is done when the call returns

  uint64_t create_memory_pool(int) override { no_pools(); }
  void retain_memory_pool(int, uint64_t) override { no_pools(); }
  void release_memory_pool(int, uint64_t) override { no_pools(); }
  void begin_memory_pool(uint64_t, Stream) override { no_pools(); }
  int64_t end_memory_pool(uint64_t, Stream) override { no_pools(); }
  void count_memory_pool(int, uint64_t, int64_t) override { no_pools(); }

  void copy(void* dst, Device, const void* src, Device, size_t bytes, bool) override {
    constexpr int64_t kGrain = 1 << 20;
    parallel_for(static_cast<int64_t>(bytes), kGrain, [&](int64_t begin, int64_t end) {
      std::memcpy(static_cast<char*>(dst) + begin, static_cast<const char*>(src) + begin,
                  end - begin);
    });
  }
  void copy_many(int, std::span<const Copy> copies) override {
    for (const Copy& each : copies) std::memcpy(each.dst, each.src, each.bytes);
  }
  void zero(int, void* data, size_t bytes) override { std::memset(data, 0, bytes); }

  Stream current_stream(int index) override {
    return {{DeviceType::kCPU, static_cast<uint8_t>(index)}, nullptr};
  }
  void set_current_stream(Stream) override {}
  Stream create_stream(int index, int) override { return current_stream(index); }
  void destroy_stream(Stream) override {}
  int stream_priority(Stream) override { return 0; }
  bool query_stream(Stream) override { return true; }
  void synchronize_stream(Stream) override {}
  void synchronize(int) override {}

  void* create_event(int, bool, bool) override { return new Clock::time_point(); }
  void destroy_event(void* event) override { delete static_cast<Clock::time_point*>(event); }
  void record_event(void* event, Stream) override {
    *static_cast<Clock::time_point*>(event) = Clock::now();
  }
  void wait_event(Stream, void*) override {}
  bool query_event(void*) override { return true; }
  void synchronize_event(void*) override {}
  double elapsed_ms(void* start, void* end) override {
    return std::chrono::duration<double, std::milli>(*static_cast<Clock::time_point*>(end) -
                                                     *static_cast<Clock::time_point*>(start))
        .count();
  }

  // Without a GPU any memory will do; with one, tensors are pinned through the CUDA backend.
  void* allocate_pinned(size_t bytes) override { return cpu::allocate(bytes); }
  void deallocate_pinned(void* data, size_t bytes) override { cpu::deallocate(data, bytes); }
  bool is_pinned(const void*) override { return false; }

  std::unique_ptr<Graph> make_graph(int index) override {
    fail(ErrorKind::kRuntime, "graph: cpu:", index,
         " runs each operation at once, so there is nothing to capture; use a CUDA device");
  }
  uint64_t capture_id(Stream) override { return 0; }
  void write_words(int, uint64_t* dst, const uint64_t* words, int count) override {
    std::memcpy(dst, words, static_cast<size_t>(count) * sizeof(uint64_t));
  }
};

}  // namespace

Backend& cpu_backend() {
  static auto* const instance = new CpuBackend;
  return *instance;
}

}  // namespace vt
