// What the caching allocator tells about itself: counters, snapshots, and the text of an
// out-of-memory error.
#include <algorithm>
#include <cstdio>

#include "base/error.h"
#include "device/caching_allocator.h"
#include "device/profiler.h"

namespace vt {
namespace {

using Action = MemoryEvent::Action;

size_t bytes_of(const Gauge& gauge) { return static_cast<size_t>(gauge.current); }

BlockInfo describe(const Block& block, bool live, const std::optional<MemoryHistory>& history) {
  BlockInfo info;
  info.address = reinterpret_cast<uintptr_t>(block.data);
  info.size = block.size;
  if (block.free) return info;
  info.requested = block.requested;
  info.state = live ? BlockInfo::State::kLive : BlockInfo::State::kPending;
  if (history) info.stack = history->stack_of(block.data);
  return info;
}

}  // namespace

std::string readable_bytes(size_t bytes) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return str(bytes, " B");
  double value = static_cast<double>(bytes) / 1024;
  int unit = 0;
  for (; value >= 1024 && unit < 5; ++unit) value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, "%.2f %s", value, kUnits[unit]);
  return text;
}

void CachingAllocator::tell_profiler(const void* data, int64_t bytes) const {
  profiler::note_memory(device_, data, bytes, stats_.allocated.bytes[0].current,
                        stats_.reserved.bytes[0].current);
}

MemoryStats CachingAllocator::stats() const {
  std::lock_guard lock(mutex_);
  MemoryStats result;
  result.allocated = bytes_of(stats_.allocated.bytes[0]);
  result.reserved = bytes_of(stats_.reserved.bytes[0]);
  result.peak_allocated = static_cast<size_t>(stats_.allocated.bytes[0].peak);
  result.peak_reserved = static_cast<size_t>(stats_.reserved.bytes[0].peak);
  result.allocations = static_cast<uint64_t>(stats_.allocated.count[0].added);
  result.system_allocations = static_cast<uint64_t>(stats_.system_allocations);
  return result;
}

NamedCounters CachingAllocator::counters() const {
  std::lock_guard lock(mutex_);
  return named_counters(stats_);
}

void CachingAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.for_each_gauge([](Gauge& gauge) { gauge.reset_peak(); });
}

void CachingAllocator::reset_sums() {
  std::lock_guard lock(mutex_);
  stats_.for_each_gauge([](Gauge& gauge) { gauge.reset_sums(); });
  stats_.retries = stats_.failures = stats_.waits = 0;
  stats_.system_allocations = stats_.system_frees = 0;
}

void CachingAllocator::record_history(size_t capacity, MemoryHistory::StackSource stacks) {
  std::lock_guard lock(mutex_);
  history_.emplace(capacity);
  stacks_ = stacks;
}

void CachingAllocator::stop_history() {
  std::lock_guard lock(mutex_);
  history_.reset();
  stacks_ = nullptr;
}

MemorySnapshot CachingAllocator::snapshot() const {
  std::lock_guard lock(mutex_);
  MemorySnapshot result;
  // A segment is the chain of blocks that starts at a block without lower neighbour; of a range,
  // each stretch between two holes.
  for (auto& chunk : chunks_)
    for (size_t i = 0; i < kBlocksOfChunk; ++i) {
      const Block& first = chunk[i];
      if (!first.data || first.hole || (first.lower && !first.lower->hole)) continue;
      SegmentInfo segment;
      segment.address = reinterpret_cast<uintptr_t>(first.data);
      segment.stream = first.owner->stream;
      segment.pool = first.owner->pool->id;
      segment.small = first.small;
      segment.expandable = first.range != nullptr;
      for (const Block* block = &first; block && !block->hole; block = block->upper)
        segment.blocks.push_back(describe(*block, live_.find(block->data) == block, history_));
      result.segments.push_back(std::move(segment));
    }
  std::sort(result.segments.begin(), result.segments.end(),
            [](const SegmentInfo& a, const SegmentInfo& b) { return a.address < b.address; });
  if (history_) result.events.assign(history_->events().begin(), history_->events().end());
  return result;
}

// Only what can help in this case; the first that applies.
std::string CachingAllocator::advice(size_t bytes, const MemorySource::Capacity& capacity,
                                     size_t others) const {
  const size_t reserved = bytes_of(stats_.reserved.bytes[0]);
  const size_t idle = reserved - bytes_of(stats_.active.bytes[0]);
  if (bytes > capacity.total)
    return "; the request is larger than the device: are the sizes right?";
  if (limit_ < capacity.total && bytes <= capacity.free && !within_limit(bytes))
    return str("; the process may reserve ", readable_bytes(limit_),
               " only: raise it with torch.cuda.set_per_process_memory_fraction");
  if (capturing())
    return "; a graph is being captured, so cached memory cannot be given back now: call "
           "empty_cache before the capture, or let graphs that never run at the same time share a "
           "pool";
  if (idle >= bytes)
    return str("; ", readable_bytes(idle),
               " of the reserved memory is unused but lies between live tensors",
               expandable_ ? ""
                           : ": VIBETENSOR_CUDA_ALLOCATOR=expandable joins free memory of "
                             "different sizes",
               expandable_ ? ": keep shapes constant between steps" : "");
  if (others > reserved)
    return str("; other processes or libraries hold ", readable_bytes(others), " of it");
  return "; use a smaller batch or fewer live tensors";
}

void CachingAllocator::out_of_memory(size_t bytes, const StreamCache* cache) {
  ++stats_.failures;
  const MemorySource::Capacity capacity = source_.capacity();
  note(Action::kOutOfMemory, reinterpret_cast<const void*>(capacity.free), bytes,
       cache ? cache->stream : nullptr);
  const size_t reserved = bytes_of(stats_.reserved.bytes[0]);
  const size_t used = capacity.total - std::min(capacity.free, capacity.total);
  const size_t others = used - std::min(reserved, used);
  size_t largest = 0, in_graphs = 0;
  if (cache) largest = std::max(cache->small.largest(), cache->large.largest());
  for (auto& pool : pools_)
    for (auto& each : pool->caches)
      for (bool is_small : {true, false})
        each->bins(is_small).for_each([&](const Block* block) { in_graphs += block->size; });
  const std::string users = source_.other_users();
  fail(ErrorKind::kOutOfMemory, to_string(device_), " is out of memory: cannot allocate ",
       readable_bytes(bytes), "; ", readable_bytes(capacity.free), " of ",
       readable_bytes(capacity.total), " are free, live tensors hold ",
       readable_bytes(bytes_of(stats_.allocated.bytes[0])), ", the allocator has reserved ",
       readable_bytes(reserved), ", the largest free block it has for this stream is ",
       readable_bytes(largest),
       in_graphs ? str(", pools of captured graphs keep ", readable_bytes(in_graphs), " free") : "",
       users.empty() ? "" : str(", the GPU is also used by ", users),
       advice(bytes, capacity, others));
}

}  // namespace vt
