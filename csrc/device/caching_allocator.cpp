// Splitting, merging and reusing blocks of device memory.
#include "device/caching_allocator.h"

#include <algorithm>

#include "base/error.h"
#include "device/profiler.h"

namespace vt {
namespace {

using Action = MemoryEvent::Action;

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kSmallLimit = kMiB;  // requests up to this are small
constexpr size_t kSmallSegment = 2 * kMiB;
constexpr size_t kMediumLimit = 10 * kMiB;  // requests below this share a segment
constexpr size_t kMediumSegment = 20 * kMiB;
constexpr size_t kLargeRound = 2 * kMiB;
constexpr size_t kLargestRequest = size_t{1} << 60;

size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

}  // namespace

CachingAllocator::CachingAllocator(Device device, MemorySource& source, bool expandable)
    : device_(device), source_(source), expandable_(expandable) {
  VT_CHECK(!expandable || source.page() > 0, kRuntime, "allocator: the driver of ", device,
           " has no virtual memory management; choose another VIBETENSOR_CUDA_ALLOCATOR");
}

CachingAllocator::~CachingAllocator() {
  begun_.clear();
  process_fences(true);
  release_segments();
  forget_ranges(shared_);
}

Block* CachingAllocator::new_block() {
  if (VT_UNLIKELY(unused_.empty())) {
    chunks_.push_back(std::make_unique<Block[]>(kBlocksOfChunk));
    unused_.reserve(chunks_.size() * kBlocksOfChunk);  // so that recycling never allocates
    for (size_t i = 0; i < kBlocksOfChunk; ++i) unused_.push_back(&chunks_.back()[i]);
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
  const MemoryStackScope stack(stacks_.load(std::memory_order_relaxed));
  std::lock_guard lock(mutex_);
  if (VT_UNLIKELY(bytes > kLargestRequest)) out_of_memory(bytes, nullptr);
  const size_t size = round_up(std::max<size_t>(bytes, 1), FreeBins::kUnit);
  const bool is_small = size <= kSmallLimit;
  StreamCache& cache = cache_of(VT_LIKELY(!capturing()) ? shared_ : pool_for(stream), stream);
  Block* block = from_cache(cache, size, is_small);
  if (VT_UNLIKELY(!block)) block = from_system(cache, size, is_small);
  if (VT_UNLIKELY(!block)) out_of_memory(bytes, &cache);
  live_.insert(block);
  block->requested = bytes;
  const auto taken = static_cast<int64_t>(block->size);
  stats_.allocated.add(is_small, taken);
  if (VT_UNLIKELY(cache.pool != &shared_)) cache.pool->hold(taken);
  stats_.active.add(is_small, taken);
  stats_.requested[0].add(static_cast<int64_t>(bytes));
  stats_.requested[is_small ? 1 : 2].add(static_cast<int64_t>(bytes));
  note(Action::kAllocate, block->data, block->size, stream);
  if (profiler::wants_memory()) tell_profiler(block->data, taken);
  return block->data;
}

Block* CachingAllocator::from_cache(StreamCache& cache, size_t size, bool is_small) {
  Block* block = cache.bins(is_small).best_fit(size);
  if (!block) return nullptr;
  remove_free(block);
  // Small blocks are cut to the byte, and those of ranges, which merge over any length. Of another
  // large one up to 1 MiB stays unused rather than becoming a crumb.
  const size_t rest = block->size - size;
  if (is_small || block->range ? rest >= FreeBins::kUnit : rest > kSmallLimit) split(block, size);
  return block;
}

// Into the bins as it is.
void CachingAllocator::insert_free(Block* block) {
  block->owner->bins(block->small).insert(block);
  if (block->part_of_segment())
    stats_.inactive_split.add(block->small, static_cast<int64_t>(block->size));
}

void CachingAllocator::remove_free(Block* block) {
  block->owner->bins(block->small).remove(block);
  if (block->part_of_segment())
    stats_.inactive_split.subtract(block->small, static_cast<int64_t>(block->size));
}

// Cuts a block that is in no bin after `size` bytes. Returns the upper part.
Block* CachingAllocator::cut(Block* block, size_t size) {
  Block* rest = new_block();
  rest->data = block->data + size;
  rest->size = block->size - size;
  rest->owner = block->owner;
  rest->range = block->range;
  rest->small = block->small;
  rest->hole = block->hole;
  rest->free = false;
  rest->lower = block;
  rest->upper = block->upper;
  if (rest->upper) rest->upper->lower = rest;
  block->upper = rest;
  block->size = size;
  return rest;
}

void CachingAllocator::split(Block* block, size_t size) { insert_free(cut(block, size)); }

bool CachingAllocator::within_limit(size_t bytes) const {
  const auto reserved = static_cast<size_t>(stats_.reserved.bytes[0].current);
  return bytes <= limit_ && reserved <= limit_ - bytes;
}

// A segment of its own in the cache. False: the system has not so much left.
bool CachingAllocator::new_segment(StreamCache& cache, size_t bytes, bool is_small) {
  if (!within_limit(bytes)) return false;
  void* data = source_.take(bytes);
  if (!data) return false;
  Block* block = new_block();
  block->data = static_cast<char*>(data);
  block->size = bytes;
  block->owner = &cache;
  block->range = nullptr;
  block->small = is_small;
  block->hole = false;
  block->lower = block->upper = nullptr;
  ++cache.pool->segments;
  ++stats_.system_allocations;
  stats_.reserved.add(is_small, static_cast<int64_t>(bytes));
  note(Action::kSegmentTake, data, bytes, cache.stream);
  insert_free(block);
  return true;
}

bool CachingAllocator::grow(StreamCache& cache, size_t size, size_t segment, bool is_small) {
  return expandable_ && !is_small ? grow_ranges(cache, size)
                                  : new_segment(cache, segment, is_small);
}

// What to try, in order of price, when the stream's own cache has no fitting block.
Block* CachingAllocator::from_system(StreamCache& cache, size_t size, bool is_small) {
  if (process_fences(false))
    if (Block* block = from_cache(cache, size, is_small)) return block;
  const size_t segment = is_small              ? kSmallSegment
                         : size < kMediumLimit ? kMediumSegment
                                               : round_up(size, kLargeRound);
  if (grow(cache, size, segment, is_small)) return from_cache(cache, size, is_small);
  ++stats_.retries;
  if (process_fences(true))
    if (Block* block = from_cache(cache, size, is_small)) return block;
  if (release_segments() > 0 && grow(cache, size, segment, is_small))
    return from_cache(cache, size, is_small);
  // Near the limit a shared segment, or a page, may be too generous.
  const size_t least = round_up(size, kLargeRound);
  if ((least < segment || expandable_) && new_segment(cache, least, is_small))
    return from_cache(cache, size, is_small);
  return nullptr;
}

void CachingAllocator::deallocate(void* data) noexcept {
  const MemoryStackScope stack(stacks_.load(std::memory_order_relaxed));
  std::lock_guard lock(mutex_);
  Block* block = live_.take(data);
  if (VT_UNLIKELY(!block)) return;  // not ours: nothing can be done in a destructor
  stats_.allocated.subtract(block->small, static_cast<int64_t>(block->size));
  if (MemoryPool* pool = block->owner->pool; VT_UNLIKELY(pool != &shared_))
    pool->held -= static_cast<int64_t>(block->size);
  stats_.requested[0].subtract(static_cast<int64_t>(block->requested));
  stats_.requested[block->small ? 1 : 2].subtract(static_cast<int64_t>(block->requested));
  note(Action::kFreeRequested, data, block->size, block->owner->stream);
  if (profiler::wants_memory()) tell_profiler(data, -static_cast<int64_t>(block->size));
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

// From use to the bins.
void CachingAllocator::to_cache(Block* block) {
  stats_.active.subtract(block->small, static_cast<int64_t>(block->size));
  note(Action::kFreeCompleted, block->data, block->size, block->owner->stream);
  block = merge(block);
  // Nobody will ask this pool again.
  if (VT_UNLIKELY(block->owner->pool->references == 0) && !capturing()) {
    if (block->range) release_pages(*block->range, *block->owner->pool);
    else if (block->whole_segment()) release_segment(block);
  }
}

// Into the bins as one with the free neighbours.
Block* CachingAllocator::merge(Block* block) {
  if (Block* lower = block->lower; lower && lower->free) {
    remove_free(lower);
    lower->size += block->size;
    lower->upper = block->upper;
    if (block->upper) block->upper->lower = lower;
    recycle(block);
    block = lower;
  }
  if (Block* upper = block->upper; upper && upper->free) {
    remove_free(upper);
    block->size += upper->size;
    block->upper = upper->upper;
    if (upper->upper) upper->upper->lower = block;
    recycle(upper);
  }
  insert_free(block);
  return block;
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
  if (wait) ++stats_.waits;
  bool any = false;
  // Streams whose oldest fence is not passed: their later ones are not either.
  std::vector<void*> busy;
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
  remove_free(block);
  note(Action::kSegmentGiveBack, block->data, size, block->owner->stream);
  source_.give_back(block->data, size);
  stats_.reserved.subtract(block->small, static_cast<int64_t>(size));
  ++stats_.system_frees;
  --block->owner->pool->segments;
  recycle(block);
  return size;
}

size_t CachingAllocator::release_segments(MemoryPool& pool) {
  size_t released = 0;
  for (auto& cache : pool.caches) {
    for (bool is_small : {true, false})
      cache->bins(is_small).for_each([&](Block* block) {
        if (block->whole_segment()) released += release_segment(block);
      });
    for (auto& range : cache->ranges) released += release_pages(*range, pool);
  }
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

void CachingAllocator::set_limit(double fraction) {
  VT_CHECK(fraction > 0 && fraction <= 1, kValue,
           "set_per_process_memory_fraction: expected a fraction above 0, at most 1, got ",
           fraction);
  const size_t total = source_.capacity().total;
  std::lock_guard lock(mutex_);
  limit_ = fraction == 1 ? ~size_t{0} : static_cast<size_t>(fraction * static_cast<double>(total));
  fraction_ = fraction;
}

double CachingAllocator::limit() const {
  std::lock_guard lock(mutex_);
  return fraction_;
}

}  // namespace vt
