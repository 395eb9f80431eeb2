// Counters of an allocator, under the names that PyTorch gave them.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace vt {

// Something that goes up and down: what it is, the most it was, and all that was ever added.
struct Gauge {
  int64_t current = 0, peak = 0, added = 0, at_reset = 0;

  void add(int64_t amount) {
    current += amount;
    added += amount;
    if (current > peak) peak = current;
  }
  void subtract(int64_t amount) { current -= amount; }
  int64_t removed() const { return at_reset + added - current; }
  void reset_peak() { peak = current; }
  void reset_sums() {
    added = 0;
    at_reset = current;
  }
};

// A number of things and their bytes, of all sizes and of small and large requests alone.
struct SizedGauge {
  Gauge count[3], bytes[3];  // all, small, large

  void add(bool is_small, int64_t size) {
    for (int which : {0, is_small ? 1 : 2}) {
      count[which].add(1);
      bytes[which].add(size);
    }
  }
  void subtract(bool is_small, int64_t size) {
    for (int which : {0, is_small ? 1 : 2}) {
      count[which].subtract(1);
      bytes[which].subtract(size);
    }
  }
  // Of a large thing that grows or shrinks.
  void grow(int64_t size) {
    for (int which : {0, 2}) bytes[which].add(size);
  }
  void shrink(int64_t size) {
    for (int which : {0, 2}) bytes[which].subtract(size);
  }
  template <class F>
  void for_each(F&& f) {
    for (Gauge& each : count) f(each);
    for (Gauge& each : bytes) f(each);
  }
};

struct AllocatorStats {
  SizedGauge allocated;       // blocks that tensors hold
  SizedGauge active;          // those, and freed ones that other streams still use
  SizedGauge reserved;        // segments taken from the system, and ranges that have memory
  SizedGauge inactive_split;  // free blocks that share a segment with others
  Gauge requested[3];         // bytes before rounding
  int64_t system_allocations = 0, system_frees = 0, retries = 0, failures = 0, waits = 0;

  template <class F>
  void for_each_gauge(F&& f) {
    for (SizedGauge* each : {&allocated, &active, &reserved, &inactive_split}) each->for_each(f);
    for (Gauge& each : requested) f(each);
  }
};

using NamedCounters = std::vector<std::pair<std::string, int64_t>>;

// "allocated_bytes.all.current" and so on, in PyTorch's order.
NamedCounters named_counters(const AllocatorStats& stats);

}  // namespace vt
