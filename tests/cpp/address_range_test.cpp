// Expandable ranges of the caching allocator: growing, reusing what segments could not, giving
// pages back.
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "fake_memory.h"

namespace vt {
namespace {

class AddressRanges : public testing::Test {
 protected:
  char* take(size_t mib, void* stream = kDefault) {
    return static_cast<char*>(allocator.allocate(mib * kMiB, stream));
  }
  FakeMemory memory;
  CachingAllocator allocator{kDevice, memory, true};
};

TEST_F(AddressRanges, GrowAtTheirEnd) {
  char* a = take(30);
  EXPECT_EQ(memory.used, 40 * kMiB);
  char* b = take(30);
  EXPECT_EQ(b, a + 30 * kMiB);
  EXPECT_EQ(memory.used, 60 * kMiB);
  allocator.deallocate(a);
  allocator.deallocate(b);
  // A longer block takes the place of two shorter ones and what follows them.
  EXPECT_EQ(take(90), a);
  EXPECT_EQ(memory.used, 100 * kMiB);
  EXPECT_EQ(allocator.stats().reserved, 100 * kMiB);
  EXPECT_EQ(memory.ranges.size(), 1u);
}

TEST_F(AddressRanges, GivePagesBackAroundLiveBlocks) {
  char* a = take(50);
  char* b = take(10);
  char* c = take(60);
  EXPECT_EQ(memory.used, 120 * kMiB);
  allocator.deallocate(a);
  allocator.deallocate(c);
  allocator.empty_cache();
  EXPECT_EQ(memory.used, 20 * kMiB);  // the page that b lies in
  EXPECT_TRUE(memory.pages.contains(a + 40 * kMiB));
  // The first hole takes the next block, with the rest of that page.
  char* again = take(50);
  EXPECT_EQ(again, a);
  EXPECT_EQ(memory.used, 60 * kMiB);
  allocator.deallocate(again);
  allocator.deallocate(b);
  allocator.empty_cache();
  EXPECT_EQ(memory.used, 0u);
  EXPECT_EQ(allocator.stats().reserved, 0u);
}

TEST_F(AddressRanges, ARangeWithMemoryIsOneSegment) {
  const auto segments = [&](const char* when) {
    for (const auto& [name, value] : allocator.counters())
      if (name == std::string("segment.all.") + when) return value;
    return int64_t{-1};
  };
  char* a = take(50);
  char* b = take(90);
  EXPECT_EQ(segments("current"), 1);
  allocator.deallocate(a);
  allocator.empty_cache();
  EXPECT_EQ(segments("current"), 1);
  allocator.deallocate(b);
  allocator.empty_cache();
  EXPECT_EQ(segments("current"), 0);
  EXPECT_EQ(segments("freed"), 1);
  take(10);
  EXPECT_EQ(segments("allocated"), 2);
}

TEST_F(AddressRanges, BelongToOneStream) {
  char* a = take(30);
  allocator.deallocate(a);
  EXPECT_NE(take(30, kOther), a);
  EXPECT_EQ(memory.ranges.size(), 2u);
}

TEST_F(AddressRanges, PagesMoveToAnotherStreamBeforeMemoryRunsOut) {
  memory.total = 100 * kMiB;
  allocator.deallocate(take(90));
  EXPECT_NE(take(90, kOther), nullptr);
  EXPECT_THROW(take(30), Error);
  EXPECT_EQ(memory.used, 100 * kMiB);
  EXPECT_THROW(take(300), Error);
  EXPECT_EQ(memory.ranges.size(), 2u);
}

TEST_F(AddressRanges, OfADroppedPoolGo) {
  const uint64_t pool = allocator.create_pool();
  allocator.begin_pool(pool, kOther);
  char* kept = take(30, kOther);
  char* freed = take(50, kOther);
  allocator.deallocate(freed);
  allocator.end_pool(pool, kOther);
  allocator.release_pool(pool);
  EXPECT_EQ(memory.used, 40 * kMiB);
  allocator.deallocate(kept);
  EXPECT_EQ(memory.used, 0u);
  allocator.empty_cache();
  EXPECT_TRUE(memory.ranges.empty());
}

TEST_F(AddressRanges, SnapshotShowsStretchesWithMemory) {
  char* a = take(50);
  char* b = take(10);
  allocator.deallocate(a);
  allocator.empty_cache();
  const MemorySnapshot snapshot = allocator.snapshot();
  ASSERT_EQ(snapshot.segments.size(), 1u);
  const SegmentInfo& segment = snapshot.segments[0];
  EXPECT_TRUE(segment.expandable);
  ASSERT_EQ(segment.blocks.size(), 2u);
  EXPECT_EQ(segment.blocks[0].state, BlockInfo::State::kFree);
  EXPECT_EQ(segment.blocks[1].address, reinterpret_cast<uintptr_t>(b));
  EXPECT_EQ(segment.blocks[1].state, BlockInfo::State::kLive);
}

TEST_F(AddressRanges, LiveBlocksNeverOverlapAndAlwaysHaveMemory) {
  std::mt19937 random(3);
  std::map<char*, size_t> live;
  memory.all_passed = true;
  for (int i = 0; i < 4000; ++i) {
    if (live.size() > 12 || (!live.empty() && random() % 2)) {
      auto victim = std::next(live.begin(), static_cast<int64_t>(random() % live.size()));
      allocator.deallocate(victim->first);
      live.erase(victim);
      if (random() % 50 == 0) allocator.empty_cache();
      continue;
    }
    const size_t bytes = kMiB + 1 + random() % (60 * kMiB);
    char* data = static_cast<char*>(allocator.allocate(bytes, random() % 3 ? kDefault : kOther));
    const auto [entry, fresh] = live.emplace(data, bytes);
    ASSERT_TRUE(fresh);
    if (entry != live.begin()) {
      ASSERT_LE(std::prev(entry)->first + std::prev(entry)->second, data);
    }
    if (auto next = std::next(entry); next != live.end()) { ASSERT_LE(data + bytes, next->first); }
    auto range = std::prev(memory.ranges.upper_bound(data));
    for (char* at = data; at < data + bytes; at += kMiB) {
      const auto offset = static_cast<size_t>(at - range->first);
      ASSERT_TRUE(memory.pages.contains(range->first + offset / memory.kPage * memory.kPage));
    }
    ASSERT_EQ(allocator.stats().reserved, memory.used);
  }
  for (auto& [data, bytes] : live) allocator.deallocate(data);
  allocator.empty_cache();
  EXPECT_EQ(memory.used, 0u);
}

}  // namespace
}  // namespace vt
