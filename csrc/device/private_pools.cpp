// The caching allocator's private pools: their lives, and which streams they serve
// (Note [Private pools]).
#include <algorithm>
#include <atomic>
#include <utility>

#include "base/error.h"
#include "device/caching_allocator.h"

namespace vt {

MemoryPool& CachingAllocator::pool_of(const char* op, uint64_t id) {
  for (auto& pool : pools_)
    if (pool->id == id && pool->references > 0) return *pool;
  fail(ErrorKind::kRuntime, op, ": ", device_, " has no memory pool ", id,
       "; it was released, or made on another device");
}

uint64_t CachingAllocator::create_pool() {
  static std::atomic<uint64_t> last_id{0};  // of all devices, so that none is mistaken for another
  std::lock_guard lock(mutex_);
  pools_.push_back(std::make_unique<MemoryPool>());
  return pools_.back()->id = ++last_id;
}

void CachingAllocator::retain_pool(uint64_t id) {
  std::lock_guard lock(mutex_);
  ++pool_of("retain_pool", id).references;
}

void CachingAllocator::release_pool(uint64_t id) {
  std::lock_guard lock(mutex_);
  drop_reference(pool_of("release_pool", id));
}

// Without references the pool's free segments go back now, or when the last capture has ended.
void CachingAllocator::drop_reference(MemoryPool& pool) {
  if (--pool.references > 0 || capturing()) return;
  process_fences(true);
  release_dropped_pools();
}

void CachingAllocator::begin_pool(uint64_t id, void* stream) {
  std::lock_guard lock(mutex_);
  MemoryPool& pool = pool_of("begin_pool", id);
  for (const Begun& each : begun_)
    VT_CHECK(each.stream != stream, kRuntime, "begin_pool: memory pool ", each.pool->id,
             " is already begun for this stream of ", device_, "; end it first");
  ++pool.references;
  pool.most_held = pool.held;
  begun_.push_back({&pool, stream});
}

int64_t CachingAllocator::end_pool(uint64_t id, void* stream) {
  std::lock_guard lock(mutex_);
  const auto found = std::find_if(begun_.begin(), begun_.end(), [&](const Begun& each) {
    return each.pool->id == id && each.stream == stream;
  });
  VT_CHECK(found != begun_.end(), kRuntime, "end_pool: memory pool ", id,
           " is not begun for this stream of ", device_);
  MemoryPool& pool = *found->pool;
  const int64_t most = pool.most_held;
  begun_.erase(found);
  if (!capturing()) {
    for (Block* block : std::exchange(deferred_, {})) fence(block);
  }
  drop_reference(pool);
  if (!capturing()) release_dropped_pools();
  return most;
}

void CachingAllocator::count_pool(uint64_t id, int64_t bytes) {
  std::lock_guard lock(mutex_);
  const int64_t idle = bytes - pool_of("count_pool", id).held;
  for (Gauge* gauge : {&stats_.allocated.bytes[0], &stats_.active.bytes[0]})
    gauge->peak = std::max(gauge->peak, gauge->current + idle);
}

// The pool for work of a stream while some are begun.
MemoryPool& CachingAllocator::pool_for(void* stream) {
  for (const Begun& each : begun_)
    if (each.stream == stream) return *each.pool;
  if (const uint64_t capture = source_.capture_of(stream); capture != 0)
    for (const Begun& each : begun_)
      if (source_.capture_of(each.stream) == capture) return *each.pool;
  return shared_;
}

// Gives the free segments of pools without references back. Returns the number of bytes.
size_t CachingAllocator::release_dropped_pools() {
  size_t released = 0;
  for (auto& pool : pools_)
    if (pool->references == 0) released += release_segments(*pool);
  std::erase_if(pools_, [&](auto& pool) {
    if (pool->references > 0 || pool->segments > 0) return false;
    forget_ranges(*pool);
    return true;
  });
  return released;
}

}  // namespace vt
