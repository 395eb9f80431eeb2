// The caching allocator's expandable ranges: filling holes with pages, and taking pages away from
// free blocks. A range grows where its last block ends, so that one long block can follow short
// ones in the same memory, where a segment would be too short.
#include <algorithm>

#include "base/error.h"
#include "device/caching_allocator.h"

namespace vt {
namespace {

using Action = MemoryEvent::Action;

size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }
size_t round_down(size_t value, size_t step) { return value / step * step; }

}  // namespace

// Addresses for more than the device's memory: holes between live blocks use them up too.
AddressRange& CachingAllocator::new_range(StreamCache& cache) {
  const size_t size = round_up(source_.capacity().total / 8 * 9, source_.page());
  auto range = std::make_unique<AddressRange>();
  range->data = static_cast<char*>(source_.reserve(size));
  range->size = size;
  Block* hole = new_block();
  hole->data = range->data;
  hole->size = size;
  hole->owner = &cache;
  hole->range = range.get();
  hole->small = false;
  hole->hole = true;
  hole->lower = hole->upper = nullptr;
  range->first = hole;
  cache.ranges.push_back(std::move(range));
  return *cache.ranges.back();
}

// Makes a free block of at least `size` bytes by mapping pages into the first hole that, with the
// free blocks beside it, has room for it.
CachingAllocator::Filling CachingAllocator::fill(AddressRange& range, size_t size) {
  for (Block* hole = range.first; hole; hole = hole->upper) {
    if (!hole->hole) continue;
    const size_t below = hole->lower && hole->lower->free ? hole->lower->size : 0;
    const size_t above = hole->upper && hole->upper->free ? hole->upper->size : 0;
    size_t bytes = round_up(size - std::min(size, below), source_.page());
    if (bytes > hole->size) {
      if (below + hole->size + above < size) continue;
      bytes = hole->size;
    }
    if (!within_limit(bytes) || !source_.map(hole->data, bytes)) return Filling::kNoMemory;
    if (bytes < hole->size) cut(hole, bytes);
    hole->hole = false;
    MemoryPool& pool = *hole->owner->pool;
    const bool first = range.mapped == 0;
    if (first) ++pool.segments;
    range.mapped += bytes;
    ++stats_.system_allocations;
    if (first) stats_.reserved.add(false, static_cast<int64_t>(bytes));
    else stats_.reserved.grow(static_cast<int64_t>(bytes));
    note(Action::kSegmentMap, hole->data, bytes, hole->owner->stream);
    merge(hole);
    return Filling::kDone;
  }
  return Filling::kNoRoom;
}

bool CachingAllocator::grow_ranges(StreamCache& cache, size_t size) {
  for (auto& range : cache.ranges)
    if (const Filling done = fill(*range, size); done != Filling::kNoRoom)
      return done == Filling::kDone;
  // A range is longer than the device's memory; what does not fit it cannot be had.
  if (size > source_.capacity().total) return false;
  return fill(new_range(cache), size) == Filling::kDone;
}

// Turns the pages [begin, end) of a free block into a hole. Returns the hole, merged with those
// beside it.
Block* CachingAllocator::unmap_middle(Block* block, char* begin, char* end) {
  remove_free(block);
  if (begin > block->data) {
    Block* upper = cut(block, static_cast<size_t>(begin - block->data));
    insert_free(block);
    block = upper;
  }
  if (end < block->data + block->size)
    insert_free(cut(block, static_cast<size_t>(end - block->data)));
  source_.unmap(block->data, block->size);
  block->hole = true;
  if (Block* lower = block->lower; lower && lower->hole) {
    lower->size += block->size;
    lower->upper = block->upper;
    if (block->upper) block->upper->lower = lower;
    recycle(block);
    block = lower;
  }
  if (Block* upper = block->upper; upper && upper->hole) {
    block->size += upper->size;
    block->upper = upper->upper;
    if (upper->upper) upper->upper->lower = block;
    recycle(upper);
  }
  return block;
}

// Gives the pages back that lie in free blocks. Returns the number of bytes.
size_t CachingAllocator::release_pages(AddressRange& range, MemoryPool& pool) {
  const size_t page = source_.page();
  size_t released = 0;
  for (Block* block = range.first; block; block = block->upper) {
    if (!block->free) continue;
    const auto at = static_cast<size_t>(block->data - range.data);
    char* const begin = range.data + round_up(at, page);
    char* const end = range.data + round_down(at + block->size, page);
    if (begin >= end) continue;
    const auto bytes = static_cast<size_t>(end - begin);
    note(Action::kSegmentUnmap, begin, bytes, block->owner->stream);
    released += bytes;
    if (released == range.mapped) stats_.reserved.subtract(false, static_cast<int64_t>(bytes));
    else stats_.reserved.shrink(static_cast<int64_t>(bytes));
    ++stats_.system_frees;
    block = unmap_middle(block, begin, end);
  }
  range.mapped -= released;
  if (released > 0 && range.mapped == 0) --pool.segments;
  return released;
}

// Of a pool that has no memory any more: the addresses go too.
void CachingAllocator::forget_ranges(MemoryPool& pool) {
  for (auto& cache : pool.caches)
    for (auto& range : cache->ranges)
      if (range->mapped == 0) {
        source_.unreserve(range->data, range->size);
        recycle(range->first);
      }
}

}  // namespace vt
