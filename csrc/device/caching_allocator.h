// The stream-ordered caching allocator of one device. Where memory comes from and how streams are
// waited for is behind MemorySource, so that this logic is tested without a GPU.
//
// Requests are rounded to 512 bytes. Up to 1 MiB they are cut from 2 MiB segments; up to 10 MiB
// from segments of 20 MiB; larger ones get a segment of their own, rounded to 2 MiB. A freed block
// merges with its free neighbours and waits for the next request of the same stream; segments go
// back to the system when memory runs out or on request.
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
};

// The free memory that work of one stream may take at once.
struct StreamCache {
  void* stream;
  FreeBins small, large;
  FreeBins& bins(bool is_small) { return is_small ? small : large; }
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

  StreamCache& cache_of(void* stream);
  Block* from_cache(StreamCache& cache, size_t size, bool is_small);
  Block* from_system(StreamCache& cache, size_t size, bool is_small);
  Block* new_segment(StreamCache& cache, size_t bytes, bool is_small);
  void split(Block* block, size_t size);
  void to_cache(Block* block);
  bool process_fences(bool wait);
  size_t release_segments();
  [[noreturn]] void out_of_memory(size_t bytes);
  Block* new_block();
  void recycle(Block* block) { unused_.push_back(block); }

  Device device_;
  MemorySource& source_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<StreamCache>> caches_;
  StreamCache* last_cache_ = nullptr;
  LiveBlocks live_;
  std::vector<Pending> pending_;  // oldest first
  std::vector<Block*> unused_;    // Block objects for reuse
  std::vector<std::unique_ptr<Block[]>> chunks_;
  MemoryStats stats_;
};

// "512 B", "1.50 GiB": sizes as error messages show them.
std::string readable_bytes(size_t bytes);

}  // namespace vt
