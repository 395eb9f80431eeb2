// What an allocator of one device can do. There is one of our own, and one that hands everything to
// the driver.
#pragma once
#include "device/backend.h"
#include "device/memory_history.h"
#include "device/memory_stats.h"

namespace vt {

class DeviceAllocator {
 public:
  virtual ~DeviceAllocator() = default;

  // Memory for work of `stream`; throws OutOfMemory. Freed, it may serve later work of that stream
  // at once; `record_stream` names others whose queued work is waited for first.
  virtual void* allocate(size_t bytes, void* stream) = 0;
  virtual void deallocate(void* data) noexcept = 0;
  virtual void record_stream(void* data, void* stream) = 0;
  virtual void empty_cache() = 0;
  // Reserves at most that part of the device's memory from now on.
  virtual void set_limit(double fraction) = 0;
  virtual double limit() const = 0;  // that part

  virtual MemoryStats stats() const = 0;
  virtual NamedCounters counters() const = 0;
  virtual void reset_peak() = 0;
  virtual void reset_sums() = 0;
  virtual MemorySnapshot snapshot() const = 0;
  // Keeps the last `capacity` events, each with what `stacks` returns (it may be null).
  virtual void record_history(size_t capacity, MemoryHistory::StackSource stacks) = 0;
  virtual void stop_history() = 0;

  // Private pools (Note [Private pools]): a new one has one reference. An unknown pool is an error.
  virtual uint64_t create_pool() = 0;
  virtual void retain_pool(uint64_t id) = 0;
  virtual void release_pool(uint64_t id) = 0;
  // Between the two, allocations of the stream and of those that joined its capture come from the
  // pool. Begin it before the capture starts, end it when the capture has ended.
  virtual void begin_pool(uint64_t id, void* stream) = 0;
  // Returns the most bytes that tensors held in the pool since it was begun.
  virtual int64_t end_pool(uint64_t id, void* stream) = 0;
  // A graph that needs so many bytes of the pool runs: the peak counts them.
  virtual void count_pool(uint64_t id, int64_t bytes) = 0;
};

}  // namespace vt
