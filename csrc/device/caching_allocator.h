// The stream-ordered caching allocator of one device.
//
// Requests are rounded to 512 bytes. Up to 1 MiB they are cut from 2 MiB segments; up to 10 MiB
// from segments of 20 MiB; larger ones get a segment of their own, rounded to 2 MiB. With
// expandable ranges, what is above 1 MiB comes from a range of addresses that is filled page by
// page instead. A freed block merges with its free neighbours and waits for the next request of the
// same stream; memory goes back to the system when it runs out or on request. Note [Private pools]
// is about graphs.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/device.h"
#include "device/device_allocator.h"
#include "device/free_bins.h"
#include "device/live_blocks.h"
#include "device/memory_source.h"

namespace vt {

struct MemoryPool;

// Addresses that a stream of a pool fills with memory where it needs some. Its blocks, chained by
// address, cover all of it; those without memory are holes.
struct AddressRange {
  char* data = nullptr;
  size_t size = 0;
  size_t mapped = 0;  // bytes that have memory
  Block* first = nullptr;
};

// The free memory of one pool that work of one stream may take at once.
struct StreamCache {
  void* stream;
  MemoryPool* pool;
  FreeBins small, large;
  std::vector<std::unique_ptr<AddressRange>> ranges;
  FreeBins& bins(bool is_small) { return is_small ? small : large; }
};

// Note [Private pools]
// A captured graph uses the same addresses at every replay, so the memory of its intermediates may
// serve nobody else for as long as the graph lives. It comes from a private pool: segments and
// caches of its own. While a pool is begun for a stream, what is allocated for that stream, or for
// one that joined the same capture, by any thread, comes from the pool; a block always goes back to
// the pool it came from. Graphs that never run at the same time may share a pool. The pool lives
// while it is referenced; then its segments go back to the system, the ones that still hold a live
// tensor when that goes.
//
// While any pool is begun, no fence is made or asked (both would be part of the capture or break
// it) and no segment goes back (that waits for the device). Blocks that need a fence wait for the
// end.
struct MemoryPool {
  uint64_t id = 0;     // 0: the shared one
  int references = 1;  // none: segments go back as soon as they are free
  size_t segments = 0;
  std::vector<std::unique_ptr<StreamCache>> caches;
  StreamCache* last = nullptr;  // the cache used last
  int64_t held = 0;             // bytes of live blocks, of private pools only
  int64_t most_held = 0;        // since it was begun

  void hold(int64_t bytes) {
    held += bytes;
    if (held > most_held) most_held = held;
  }
};

class CachingAllocator final : public DeviceAllocator {
 public:
  CachingAllocator(Device device, MemorySource& source, bool expandable = false);
  ~CachingAllocator() override;
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  void* allocate(size_t bytes, void* stream) override;
  void deallocate(void* data) noexcept override;
  void record_stream(void* data, void* stream) override;
  void empty_cache() override;
  void set_limit(double fraction) override;
  double limit() const override;

  MemoryStats stats() const override;
  NamedCounters counters() const override;
  void reset_peak() override;
  void reset_sums() override;
  MemorySnapshot snapshot() const override;
  void record_history(size_t capacity, MemoryHistory::StackSource stacks) override;
  void stop_history() override;

  uint64_t create_pool() override;
  void retain_pool(uint64_t id) override;
  void release_pool(uint64_t id) override;
  void begin_pool(uint64_t id, void* stream) override;
  int64_t end_pool(uint64_t id, void* stream) override;
  void count_pool(uint64_t id, int64_t bytes) override;

 private:
  struct Pending {
    void* stream;
    void* fence;
    Block* block;
  };
  struct Begun {
    MemoryPool* pool;
    void* stream;
  };

  StreamCache& cache_of(MemoryPool& pool, void* stream);
  MemoryPool& pool_for(void* stream);
  MemoryPool& pool_of(const char* op, uint64_t id);
  void drop_reference(MemoryPool& pool);
  size_t release_dropped_pools();

  Block* from_cache(StreamCache& cache, size_t size, bool is_small);
  Block* from_system(StreamCache& cache, size_t size, bool is_small);
  bool grow(StreamCache& cache, size_t size, size_t segment, bool is_small);
  bool new_segment(StreamCache& cache, size_t bytes, bool is_small);
  bool within_limit(size_t bytes) const;
  void split(Block* block, size_t size);
  Block* cut(Block* block, size_t size);
  void insert_free(Block* block);
  void remove_free(Block* block);
  void to_cache(Block* block);
  Block* merge(Block* block);
  void fence(Block* block);
  bool process_fences(bool wait);
  bool capturing() const { return !begun_.empty(); }
  size_t release_segment(Block* block);
  size_t release_segments(MemoryPool& pool);
  size_t release_segments();

  AddressRange& new_range(StreamCache& cache);
  enum class Filling { kDone, kNoRoom, kNoMemory };
  Filling fill(AddressRange& range, size_t size);
  bool grow_ranges(StreamCache& cache, size_t size);
  size_t release_pages(AddressRange& range, MemoryPool& pool);
  Block* unmap_middle(Block* block, char* begin, char* end);
  void forget_ranges(MemoryPool& pool);

  [[noreturn]] void out_of_memory(size_t bytes, const StreamCache* cache);
  std::string advice(size_t bytes, const MemorySource::Capacity& capacity, size_t others) const;
  void note(MemoryEvent::Action action, const void* data, size_t size, void* stream) {
    if (VT_UNLIKELY(history_.has_value())) history_->record(action, data, size, stream);
  }
  void tell_profiler(const void* data, int64_t bytes) const;
  static constexpr size_t kBlocksOfChunk = 256;
  Block* new_block();
  void recycle(Block* block) {
    block->data = nullptr;
    unused_.push_back(block);
  }

  Device device_;
  MemorySource& source_;
  bool expandable_;
  size_t limit_ = ~size_t{0};  // bytes that may be reserved
  double fraction_ = 1;        // the same of the device's memory
  mutable std::mutex mutex_;
  MemoryPool shared_;
  std::vector<std::unique_ptr<MemoryPool>> pools_;  // private ones
  std::vector<Begun> begun_;
  LiveBlocks live_;
  std::vector<Pending> pending_;  // oldest first
  std::vector<Block*> deferred_;  // freed during a capture, fences to be made
  std::vector<Block*> unused_;    // Block objects for reuse
  std::vector<std::unique_ptr<Block[]>> chunks_;
  AllocatorStats stats_;
  std::optional<MemoryHistory> history_;
  std::atomic<MemoryHistory::StackSource> stacks_{nullptr};
};

// "512 B", "1.50 GiB": sizes as error messages show them.
std::string readable_bytes(size_t bytes);

}  // namespace vt
