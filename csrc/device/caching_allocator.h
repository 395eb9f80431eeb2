// The stream-ordered caching allocator of one device. Where memory comes from and how streams are
// waited for is behind MemorySource, so that this logic is tested without a GPU.
//
// Requests are rounded to 512 bytes. Up to 1 MiB they are cut from 2 MiB segments; up to 10 MiB
// from segments of 20 MiB; larger ones get a segment of their own, rounded to 2 MiB. A freed block
// merges with its free neighbours and waits for the next request of the same stream; segments go
// back to the system when memory runs out or on request. Note [Private pools] is about graphs.
#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "device/backend.h"
#include "device/free_bins.h"

namespace vt {

class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual void* take(size_t bytes) = 0;  // null: there is not so much left
  virtual void give_back(void* data,
                         size_t bytes) noexcept = 0;  // waits for work that may still use it
  struct Capacity {
    size_t free, total;
  };
  virtual Capacity capacity() = 0;

  // A fence is passed once the work that was queued on the stream when it was made is done. Null
  // counts as passed.
  virtual void* make_fence(void* stream) noexcept = 0;
  virtual bool passed(void* fence) noexcept = 0;
  virtual void wait(void* fence) noexcept = 0;
  virtual void drop_fence(void* fence) noexcept = 0;

  // Which graph capture the stream is part of, 0 for none. Streams that joined a capture through
  // events have its number too.
  virtual uint64_t capture_of(void* stream) noexcept = 0;
};

struct MemoryPool;

// The free memory of one pool that work of one stream may take at once.
struct StreamCache {
  void* stream;
  MemoryPool* pool;
  FreeBins small, large;
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
};

class CachingAllocator {
 public:
  CachingAllocator(Device device, MemorySource& source) : device_(device), source_(source) {}
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  void* allocate(size_t bytes, void* stream);
  void deallocate(void* data) noexcept;
  void record_stream(void* data, void* stream);
  void empty_cache();
  MemoryStats stats() const;
  void reset_peak();

  // Private pools: a new one has one reference. An unknown pool is an error.
  uint64_t create_pool();
  void retain_pool(uint64_t id);
  void release_pool(uint64_t id);
  // Between the two, allocations of the stream and of those that joined its capture come from the
  // pool. Begin it before the capture starts, end it when the capture has ended.
  void begin_pool(uint64_t id, void* stream);
  void end_pool(uint64_t id, void* stream);

 private:
  // Live blocks by address: open addressing, no allocation on the hot path.
  class LiveBlocks {
   public:
    void insert(Block* block);
    Block* find(const void* data) const;
    Block* take(const void* data);  // null when the address is not one of ours

   private:
    size_t slot_of(const void* data) const;
    void grow();
    std::vector<Block*> slots_ = std::vector<Block*>(1024);
    size_t count_ = 0;
  };

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
  Block* new_segment(StreamCache& cache, size_t bytes, bool is_small);
  void split(Block* block, size_t size);
  void to_cache(Block* block);
  void fence(Block* block);
  bool process_fences(bool wait);
  bool capturing() const { return !begun_.empty(); }
  size_t release_segment(Block* block);
  size_t release_segments(MemoryPool& pool);
  size_t release_segments();
  [[noreturn]] void out_of_memory(size_t bytes);
  Block* new_block();
  void recycle(Block* block) { unused_.push_back(block); }

  Device device_;
  MemorySource& source_;
  mutable std::mutex mutex_;
  MemoryPool shared_;
  std::vector<std::unique_ptr<MemoryPool>> pools_;  // private ones
  std::vector<Begun> begun_;
  LiveBlocks live_;
  std::vector<Pending> pending_;  // oldest first
  std::vector<Block*> deferred_;  // freed during a capture, fences to be made
  std::vector<Block*> unused_;    // Block objects for reuse
  std::vector<std::unique_ptr<Block[]>> chunks_;
  MemoryStats stats_;
};

// "512 B", "1.50 GiB": sizes as error messages show them.
std::string readable_bytes(size_t bytes);

}  // namespace vt
