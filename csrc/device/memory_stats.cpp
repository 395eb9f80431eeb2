// The names of the counters.
#include "device/memory_stats.h"

namespace vt {
namespace {

void append(NamedCounters& out, const char* name, const Gauge (&gauges)[3]) {
  static constexpr const char* kSizes[] = {".all", ".small_pool", ".large_pool"};
  for (int i = 0; i < 3; ++i) {
    const std::string prefix = std::string(name) + kSizes[i];
    out.emplace_back(prefix + ".current", gauges[i].current);
    out.emplace_back(prefix + ".peak", gauges[i].peak);
    out.emplace_back(prefix + ".allocated", gauges[i].added);
    out.emplace_back(prefix + ".freed", gauges[i].removed());
  }
}

}  // namespace

NamedCounters named_counters(const AllocatorStats& stats) {
  NamedCounters out;
  append(out, "allocation", stats.allocated.count);
  append(out, "segment", stats.reserved.count);
  append(out, "active", stats.active.count);
  append(out, "inactive_split", stats.inactive_split.count);
  append(out, "allocated_bytes", stats.allocated.bytes);
  append(out, "reserved_bytes", stats.reserved.bytes);
  append(out, "active_bytes", stats.active.bytes);
  append(out, "inactive_split_bytes", stats.inactive_split.bytes);
  append(out, "requested_bytes", stats.requested);
  out.emplace_back("num_alloc_retries", stats.retries);
  out.emplace_back("num_ooms", stats.failures);
  out.emplace_back("num_sync_all_streams", stats.waits);
  out.emplace_back("num_device_alloc", stats.system_allocations);
  out.emplace_back("num_device_free", stats.system_frees);
  return out;
}

}  // namespace vt
