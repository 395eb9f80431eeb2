// Splitting, merging and reusing blocks of device memory.
#include "device/caching_allocator.h"

#include <algorithm>
#include <cstdio>

#include "base/error.h"

namespace vt {
namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kSmallLimit = kMiB;  // requests up to this are small
constexpr size_t kSmallSegment = 2 * kMiB;
constexpr size_t kMediumLimit = 10 * kMiB;  // requests below this share a segment
constexpr size_t kMediumSegment = 20 * kMiB;
constexpr size_t kLargeRound = 2 * kMiB;
constexpr size_t kLargestRequest = size_t{1} << 60;

size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

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

size_t CachingAllocator::LiveBlocks::slot_of(const void* data) const {
  const uint64_t key = reinterpret_cast<uintptr_t>(data) / FreeBins::kUnit;
  return (key * 0x9E3779B97F4A7C15u >> 20) & (slots_.size() - 1);
}

void CachingAllocator::LiveBlocks::insert(Block* block) {
  if (VT_UNLIKELY(++count_ * 2 > slots_.size())) grow();
  size_t slot = slot_of(block->data);
  while (slots_[slot]) slot = (slot + 1) & (slots_.size() - 1);
  slots_[slot] = block;
}

void CachingAllocator::LiveBlocks::grow() {
  std::vector<Block*> old(slots_.size() * 2);
  old.swap(slots_);
  for (Block* block : old) {
    if (!block) continue;
    size_t slot = slot_of(block->data);
    while (slots_[slot]) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = block;
  }
}

Block* CachingAllocator::LiveBlocks::find(const void* data) const {
  for (size_t slot = slot_of(data); slots_[slot]; slot = (slot + 1) & (slots_.size() - 1))
    if (slots_[slot]->data == data) return slots_[slot];
  return nullptr;
}

Block* CachingAllocator::LiveBlocks::take(const void* data) {
  const size_t mask = slots_.size() - 1;
  size_t hole = slot_of(data);
  while (slots_[hole] && slots_[hole]->data != data) hole = (hole + 1) & mask;
  Block* block = slots_[hole];
  if (!block) return nullptr;
  // Close the gap, so that a probe never stops before the block it looks for.
  for (size_t slot = (hole + 1) & mask; slots_[slot]; slot = (slot + 1) & mask) {
    const size_t home = slot_of(slots_[slot]->data);
    if (((slot - home) & mask) >= ((slot - hole) & mask)) {
      slots_[hole] = slots_[slot];
      hole = slot;
    }
  }
  slots_[hole] = nullptr;
  --count_;
  return block;
}

CachingAllocator::~CachingAllocator() {
  begun_.clear();
  process_fences(true);
  release_segments();
}

Block* CachingAllocator::new_block() {
  if (VT_UNLIKELY(unused_.empty())) {
    constexpr size_t kChunk = 256;
    chunks_.push_back(std::make_unique<Block[]>(kChunk));
    unused_.reserve(chunks_.size() * kChunk);  // so that recycling never allocates
    for (size_t i = 0; i < kChunk; ++i) unused_.push_back(&chunks_.back()[i]);
  }
  Block* block = unused_.back();
  unused_.pop_back();
  return block;
}

StreamCache& CachingAllocator::cache_of(MemoryPool& pool, void* stream) {
  if (VT_LIKELY(pool.last && pool.last->stream == stream)) return *pool.last;
  for (auto& cache : pool.caches)
    if (cache->stream == stream) return *(pool.last = cache.get());
  pool.caches.push_back(std::make_unique<StreamCache>());
  pool.caches.back()->stream = stream;
  pool.caches.back()->pool = &pool;
  return *(pool.last = pool.caches.back().get());
}

void* CachingAllocator::allocate(size_t bytes, void* stream) {
  std::lock_guard lock(mutex_);
  if (VT_UNLIKELY(bytes > kLargestRequest)) out_of_memory(bytes);
  const size_t size = round_up(std::max<size_t>(bytes, 1), FreeBins::kUnit);
  const bool is_small = size <= kSmallLimit;
  StreamCache& cache = cache_of(VT_LIKELY(!capturing()) ? shared_ : pool_for(stream), stream);
  Block* block = from_cache(cache, size, is_small);
  if (VT_UNLIKELY(!block)) block = from_system(cache, size, is_small);
  if (VT_UNLIKELY(!block)) out_of_memory(bytes);
  live_.insert(block);
  ++stats_.allocations;
  stats_.allocated += block->size;
  stats_.peak_allocated = std::max(stats_.peak_allocated, stats_.allocated);
  return block->data;
}

Block* CachingAllocator::from_cache(StreamCache& cache, size_t size, bool is_small) {
  FreeBins& bins = cache.bins(is_small);
  Block* block = bins.best_fit(size);
  if (!block) return nullptr;
  bins.remove(block);
  // Small blocks are cut to the byte; of a large one up to 1 MiB stays unused rather than becoming
  // a crumb.
  const size_t rest = block->size - size;
  if (is_small ? rest >= FreeBins::kUnit : rest > kSmallLimit) split(block, size);
  return block;
}

void CachingAllocator::split(Block* block, size_t size) {
  Block* rest = new_block();
  rest->data = block->data + size;
  rest->size = block->size - size;
  rest->owner = block->owner;
  rest->small = block->small;
  rest->lower = block;
  rest->upper = block->upper;
  if (rest->upper) rest->upper->lower = rest;
  block->upper = rest;
  block->size = size;
  rest->owner->bins(rest->small).insert(rest);
}

Block* CachingAllocator::new_segment(StreamCache& cache, size_t bytes, bool is_small) {
  void* data = source_.take(bytes);
  if (!data) return nullptr;
  Block* block = new_block();
  block->data = static_cast<char*>(data);
  block->size = bytes;
  block->owner = &cache;
  block->small = is_small;
  block->lower = block->upper = nullptr;
  ++cache.pool->segments;
  ++stats_.system_allocations;
  stats_.reserved += bytes;
  stats_.peak_reserved = std::max(stats_.peak_reserved, stats_.reserved);
  cache.bins(is_small).insert(block);
  return block;
}

// What to try, in order of price, when the stream's own cache has no fitting block.
Block* CachingAllocator::from_system(StreamCache& cache, size_t size, bool is_small) {
  if (process_fences(false))
    if (Block* block = from_cache(cache, size, is_small)) return block;
  const size_t segment = is_small              ? kSmallSegment
                         : size < kMediumLimit ? kMediumSegment
                                               : round_up(size, kLargeRound);
  if (new_segment(cache, segment, is_small)) return from_cache(cache, size, is_small);
  if (process_fences(true))
    if (Block* block = from_cache(cache, size, is_small)) return block;
  if (release_segments() > 0 && new_segment(cache, segment, is_small))
    return from_cache(cache, size, is_small);
  const size_t least =
      round_up(size, kLargeRound);  // near the limit a shared segment may be too generous
  if (least < segment && new_segment(cache, least, is_small))
    return from_cache(cache, size, is_small);
  return nullptr;
}

void CachingAllocator::deallocate(void* data) noexcept {
  std::lock_guard lock(mutex_);
  Block* block = live_.take(data);
  if (VT_UNLIKELY(!block)) return;  // not ours: nothing can be done in a destructor
  stats_.allocated -= block->size;
  if (VT_LIKELY(block->streams.empty())) return to_cache(block);
  if (capturing()) deferred_.push_back(block);
  else fence(block);
}

// To the cache, once the other streams that use the block are done with what is queued now.
void CachingAllocator::fence(Block* block) {
  for (void* stream : block->streams)
    if (void* fence = source_.make_fence(stream)) {
      pending_.push_back({stream, fence, block});
      ++block->fences;
    }
  block->streams.clear();
  if (block->fences == 0) to_cache(block);
}

void CachingAllocator::to_cache(Block* block) {
  FreeBins& bins = block->owner->bins(block->small);
  if (Block* lower = block->lower; lower && lower->free) {
    bins.remove(lower);
    lower->size += block->size;
    lower->upper = block->upper;
    if (block->upper) block->upper->lower = lower;
    recycle(block);
    block = lower;
  }
  if (Block* upper = block->upper; upper && upper->free) {
    bins.remove(upper);
    block->size += upper->size;
    block->upper = upper->upper;
    if (upper->upper) upper->upper->lower = block;
    recycle(upper);
  }
  bins.insert(block);
  // Nobody will ask this pool again.
  if (VT_UNLIKELY(block->owner->pool->references == 0) && block->whole_segment() && !capturing())
    release_segment(block);
}

void CachingAllocator::record_stream(void* data, void* stream) {
  std::lock_guard lock(mutex_);
  Block* block = live_.find(data);
  VT_CHECK(block, kRuntime, "record_stream: the memory is not from the allocator of ", device_,
           "; keep memory of other owners alive until its work is done");
  if (block->owner->stream == stream) return;
  if (std::find(block->streams.begin(), block->streams.end(), stream) == block->streams.end())
    block->streams.push_back(stream);
}

// Gives freed blocks back whose other streams are done with them. True if there was one.
bool CachingAllocator::process_fences(bool wait) {
  if (pending_.empty() || capturing()) return false;
  bool any = false;
  std::vector<void*>
      busy;  // streams whose oldest fence is not passed: their later ones are not either
  std::erase_if(pending_, [&](const Pending& entry) {
    if (std::find(busy.begin(), busy.end(), entry.stream) != busy.end()) return false;
    if (wait) {
      source_.wait(entry.fence);
    } else if (!source_.passed(entry.fence)) {
      busy.push_back(entry.stream);
      return false;
    }
    source_.drop_fence(entry.fence);
    if (--entry.block->fences == 0) {
      to_cache(entry.block);
      any = true;
    }
    return true;
  });
  return any;
}

// Gives a free block that is a whole segment back to the system. Returns its size.
size_t CachingAllocator::release_segment(Block* block) {
  const size_t size = block->size;
  block->owner->bins(block->small).remove(block);
  source_.give_back(block->data, size);
  stats_.reserved -= size;
  --block->owner->pool->segments;
  recycle(block);
  return size;
}

size_t CachingAllocator::release_segments(MemoryPool& pool) {
  size_t released = 0;
  for (auto& cache : pool.caches)
    for (bool is_small : {true, false})
      cache->bins(is_small).for_each([&](Block* block) {
        if (block->whole_segment()) released += release_segment(block);
      });
  return released;
}

// Gives every segment back that holds no live block and that no graph may use.
size_t CachingAllocator::release_segments() {
  if (capturing()) return 0;
  return release_segments(shared_) + release_dropped_pools();
}

void CachingAllocator::empty_cache() {
  std::lock_guard lock(mutex_);
  VT_CHECK(!capturing(), kRuntime, "empty_cache: a graph is being captured on ", device_,
           "; call it before or after the capture");
  process_fences(true);
  release_segments();
}

MemoryStats CachingAllocator::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.peak_allocated = stats_.allocated;
  stats_.peak_reserved = stats_.reserved;
}

void CachingAllocator::out_of_memory(size_t bytes) {
  const MemorySource::Capacity capacity = source_.capacity();
  const size_t used = capacity.total - std::min(capacity.free, capacity.total);
  const size_t others = used - std::min(stats_.reserved, used);
  const size_t idle = stats_.reserved - stats_.allocated;
  std::string advice;
  if (bytes > capacity.total)
    advice = "; the request is larger than the device: are the sizes right?";
  else if (capturing())
    advice =
        "; a graph is being captured, so cached memory cannot be given back now: call empty_cache "
        "before the capture, or let graphs that never run at the same time share a pool";
  else if (idle >= bytes)
    advice = str("; ", readable_bytes(idle),
                 " of the reserved memory is unused but lies between live tensors: free "
                 "short-lived tensors before long-lived ones are made, or keep shapes constant "
                 "between steps");
  else if (others > stats_.reserved)
    advice = str("; other processes or libraries hold ", readable_bytes(others),
                 " of it, nvidia-smi lists them");
  else advice = "; use a smaller batch or fewer live tensors";
  fail(ErrorKind::kOutOfMemory, to_string(device_), " is out of memory: cannot allocate ",
       readable_bytes(bytes), "; ", readable_bytes(capacity.free), " of ",
       readable_bytes(capacity.total), " are free, live tensors hold ",
       readable_bytes(stats_.allocated), ", the allocator has reserved ",
       readable_bytes(stats_.reserved), advice);
}

}  // namespace vt
