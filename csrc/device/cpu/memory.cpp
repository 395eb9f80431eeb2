// Two caches: a thread's own free lists up to 4 KiB, and shared lists of larger blocks by size
// class under one lock.
#include "device/cpu/memory.h"

#include <sys/mman.h>

#include <atomic>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "base/error.h"

namespace vt::cpu {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kSmallLimit = 4096;
constexpr int kSmallClasses = kSmallLimit / kAlign;  // one class each 64 bytes
constexpr int kSmallKeep = 256;                      // blocks a class that a thread keeps
constexpr size_t kHugePage = size_t{2} << 20;

std::atomic<size_t> g_allocated{0}, g_reserved{0}, g_peak_allocated{0}, g_peak_reserved{0};
std::atomic<uint64_t> g_large_allocations{0}, g_system_allocations{0};

void raise_peak(std::atomic<size_t>& peak, size_t value) {
  size_t seen = peak.load(std::memory_order_relaxed);
  while (value > seen && !peak.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {}
}

[[noreturn]] void out_of_memory(size_t bytes) {
  fail(ErrorKind::kOutOfMemory, "cpu: cannot allocate ", bytes, " bytes of host memory; ",
       g_allocated.load(), " bytes are held by tensors, ", g_reserved.load(), " are reserved");
}

void* from_system(size_t bytes) {
  void* data = nullptr;
  const size_t align = bytes >= kHugePage ? kHugePage : kAlign;
  if (posix_memalign(&data, align, bytes) != 0) return nullptr;
  if (bytes >= kHugePage) madvise(data, bytes, MADV_HUGEPAGE);
  g_system_allocations.fetch_add(1, std::memory_order_relaxed);
  raise_peak(g_peak_reserved, g_reserved.fetch_add(bytes, std::memory_order_relaxed) + bytes);
  return data;
}

void to_system(void* data, size_t bytes) {
  std::free(data);
  g_reserved.fetch_sub(bytes, std::memory_order_relaxed);
}

struct FreeBlock {
  FreeBlock* next;
};

// A thread's small blocks. Blocks may be freed by another thread than the one that took them: they
// then live there.
struct SmallCache {
  FreeBlock* head[kSmallClasses] = {};
  int count[kSmallClasses] = {};

  ~SmallCache();
};

thread_local bool t_cache_gone = false;  // set while thread-locals of this thread are torn down

SmallCache::~SmallCache() {
  t_cache_gone = true;
  for (int i = 0; i < kSmallClasses; ++i)
    while (FreeBlock* block = head[i]) {
      head[i] = block->next;
      to_system(block, (i + 1) * kAlign);
    }
}

thread_local SmallCache t_small;

// Eight classes a power of two: at most 12.5% of a large block is unused.
size_t large_class(size_t bytes) {
  const size_t step = std::max<size_t>(std::bit_floor(bytes) / 8, kAlign);
  return (bytes + step - 1) / step * step;
}

class LargeCache {
 public:
  void* allocate(size_t bytes) {
    const size_t rounded = large_class(bytes);
    g_large_allocations.fetch_add(1, std::memory_order_relaxed);
    void* data = take(rounded);
    if (!data) data = from_system(rounded);
    if (!data) {
      clear();
      data = from_system(rounded);
    }
    if (!data) out_of_memory(bytes);
    raise_peak(g_peak_allocated,
               g_allocated.fetch_add(rounded, std::memory_order_relaxed) + rounded);
    return data;
  }

  void deallocate(void* data, size_t bytes) {
    const size_t rounded = large_class(bytes);
    g_allocated.fetch_sub(rounded, std::memory_order_relaxed);
    std::lock_guard lock(mutex_);
    free_[rounded].push_back(data);
  }

  void clear() {
    std::lock_guard lock(mutex_);
    for (auto& [bytes, blocks] : free_)
      for (void* block : blocks) to_system(block, bytes);
    free_.clear();
  }

 private:
  void* take(size_t rounded) {
    std::lock_guard lock(mutex_);
    auto found = free_.find(rounded);
    if (found == free_.end() || found->second.empty()) return nullptr;
    void* data = found->second.back();
    found->second.pop_back();
    return data;
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
};

LargeCache& large() {
  static auto* const cache =
      new LargeCache;  // outlives static destruction: tensors may be freed late
  return *cache;
}

}  // namespace

void* allocate(size_t bytes) {
  if (VT_UNLIKELY(bytes > kSmallLimit)) return large().allocate(bytes);
  const int c = static_cast<int>((bytes - 1) / kAlign);
  if (VT_LIKELY(!t_cache_gone)) {
    SmallCache& cache = t_small;
    if (FreeBlock* block = cache.head[c]) {
      cache.head[c] = block->next;
      --cache.count[c];
      return block;
    }
  }
  void* data = from_system((c + 1) * kAlign);
  if (!data) out_of_memory(bytes);
  return data;
}

void deallocate(void* data, size_t bytes) {
  if (VT_UNLIKELY(bytes > kSmallLimit)) return large().deallocate(data, bytes);
  const int c = static_cast<int>((bytes - 1) / kAlign);
  if (VT_UNLIKELY(t_cache_gone) || t_small.count[c] >= kSmallKeep)
    return to_system(data, (c + 1) * kAlign);
  auto* block = static_cast<FreeBlock*>(data);
  block->next = t_small.head[c];
  t_small.head[c] = block;
  ++t_small.count[c];
}

MemoryStats memory_stats() {
  MemoryStats stats;
  stats.allocated = g_allocated;
  stats.reserved = g_reserved;
  stats.peak_allocated = g_peak_allocated;
  stats.peak_reserved = g_peak_reserved;
  stats.allocations = g_large_allocations;
  stats.system_allocations = g_system_allocations;
  return stats;
}

void reset_peak_memory() {
  g_peak_allocated = g_allocated.load();
  g_peak_reserved = g_reserved.load();
}

void empty_cache() { large().clear(); }

}  // namespace vt::cpu
