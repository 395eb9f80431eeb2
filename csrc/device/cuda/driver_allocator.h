// The allocator that hands every request to the driver's stream-ordered pool (cudaMallocAsync).
// For programs that share a GPU with libraries that use that pool too. It has no private pools, so
// graphs cannot be captured over it.
#pragma once
#include <mutex>
#include <unordered_map>
#include <vector>

#include "device/device_allocator.h"

namespace vt::cuda {

class DriverAllocator final : public DeviceAllocator {
 public:
  explicit DriverAllocator(int index);

  void* allocate(size_t bytes, void* stream) override;
  void deallocate(void* data) noexcept override;
  void record_stream(void* data, void* stream) override;
  void empty_cache() override;
  void set_limit(double fraction) override;
  double limit() const override { return 1; }

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
  struct Allocation {
    size_t bytes;
    void* stream;
    std::vector<void*> uses;
  };
  void update_reserved() const;
  void tell_profiler(const void* data, int64_t bytes) const;

  int index_;
  void* pool_ = nullptr;
  mutable std::mutex mutex_;
  std::unordered_map<void*, Allocation> live_;
  mutable AllocatorStats stats_;
};

}  // namespace vt::cuda
