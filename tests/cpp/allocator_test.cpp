// The caching allocator over a fake device: splitting, merging, streams, fences, and what happens
// when memory runs out.
#include "device/caching_allocator.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <thread>

#include "base/error.h"
#include "fake_memory.h"

namespace vt {
namespace {

TEST(CachingAllocator, SmallRequestsShareASegment) {
  FakeMemory memory;
  CachingAllocator allocator(kDevice, memory);
  void* a = allocator.allocate(1, kDefault);
  void* b = allocator.allocate(513, kDefault);
  EXPECT_EQ(static_cast<char*>(b) - static_cast<char*>(a), 512);
  EXPECT_EQ(memory.takes, 1);
  EXPECT_EQ(allocator.stats().allocated, 512u + 1024u);
  EXPECT_EQ(allocator.stats().reserved, 2 * kMiB);
  allocator.deallocate(a);
  allocator.deallocate(b);
  EXPECT_EQ(allocator.stats().allocated, 0u);
  EXPECT_EQ(allocator.stats().peak_allocated, 512u + 1024u);
}

TEST(CachingAllocator, FreedBlockIsReusedAndNeighboursMerge) {
  FakeMemory memory;
  CachingAllocator allocator(kDevice, memory);
  void* a = allocator.allocate(600 * 1024, kDefault);
  void* b = allocator.allocate(600 * 1024, kDefault);
  void* c = allocator.allocate(600 * 1024, kDefault);
  EXPECT_EQ(memory.takes, 1);
  allocator.deallocate(a);
  allocator.deallocate(c);
  allocator.deallocate(b);  // merges both ways: the whole segment is one block again
  EXPECT_EQ(allocator.allocate(kMiB, kDefault), a);
  EXPECT_EQ(allocator.allocate(kMiB, kDefault), static_cast<char*>(a) + kMiB);
  EXPECT_EQ(memory.takes, 1);
}

TEST(CachingAllocator, TakesTheBestFit) {
  FakeMemory memory;
  CachingAllocator allocator(kDevice, memory);
  void* big = allocator.allocate(64 * kMiB, kDefault);
  void* fit = allocator.allocate(30 * kMiB, kDefault);
  void* near =
      allocator.allocate(32 * kMiB, kDefault);  // the same bin as the request below, but larger
  for (void* data : {big, fit, near}) allocator.deallocate(data);
  EXPECT_EQ(allocator.allocate(30 * kMiB, kDefault), fit);
  EXPECT_EQ(allocator.allocate(31 * kMiB, kDefault), near);
  EXPECT_EQ(allocator.allocate(31 * kMiB, kDefault), big);
  EXPECT_EQ(allocator.allocate(33 * kMiB, kDefault), static_cast<char*>(big) + 31 * kMiB);
}

TEST(CachingAllocator, StreamsDoNotShareFreeBlocks) {
  FakeMemory memory;
  CachingAllocator allocator(kDevice, memory);
  void* a = allocator.allocate(4096, kDefault);
  allocator.deallocate(a);
  EXPECT_NE(allocator.allocate(4096, kOther), a);
  EXPECT_EQ(allocator.allocate(4096, kDefault), a);
}

TEST(CachingAllocator, RecordedStreamHoldsABlockBack) {
  FakeMemory memory;
  CachingAllocator allocator(kDevice, memory);
  void* a = allocator.allocate(20 * kMiB, kDefault);
  allocator.record_stream(a, kOther);
  allocator.record_stream(a, kOther);
  allocator.record_stream(a, kDefault);  // its own stream: nothing to wait for
  allocator.deallocate(a);
  EXPECT_EQ(memory.fences.size(), 1u);
  void* b = allocator.allocate(20 * kMiB, kDefault);
  EXPECT_NE(b, a);
  memory.all_passed = true;
  EXPECT_EQ(allocator.allocate(20 * kMiB, kDefault), a);
  EXPECT_TRUE(memory.fences.empty());
}

TEST(CachingAllocator, RunsOutInSteps) {
  FakeMemory memory(100 * kMiB);
  CachingAllocator allocator(kDevice, memory);
  // Memory cached by another stream is given back.
  allocator.deallocate(allocator.allocate(60 * kMiB, kOther));
  void* a = allocator.allocate(60 * kMiB, kDefault);
  EXPECT_EQ(memory.segments.size(), 1u);
  // A block held back by a fence is waited for.
  allocator.record_stream(a, kOther);
  allocator.deallocate(a);
  EXPECT_EQ(allocator.allocate(60 * kMiB, kDefault), a);
  EXPECT_EQ(memory.waits, 1);
  // A shared segment of 20 MiB that no longer fits is asked for smaller.
  void* b = allocator.allocate(22 * kMiB, kDefault);
  EXPECT_NE(allocator.allocate(9 * kMiB, kDefault), nullptr);
  allocator.deallocate(b);
  allocator.deallocate(a);
}

TEST(CachingAllocator, OutOfMemorySaysHowMuchIsWhere) {
  FakeMemory memory(100 * kMiB);
  CachingAllocator allocator(kDevice, memory);
  memory.users = "process 17 (1.00 GiB)";
  void* a = allocator.allocate(80 * kMiB, kDefault);
  try {
    allocator.allocate(40 * kMiB, kDefault);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory);
    const std::string text = error.what();
    for (const char* part :
         {"cuda:0", "cannot allocate 40.00 MiB", "20.00 MiB of 100.00 MiB are free",
          "live tensors hold 80.00 MiB", "reserved 80.00 MiB",
          "free block it has for this stream is 0 B", "also used by process 17", "smaller batch"})
      EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
  }
  EXPECT_THROW(allocator.allocate(~size_t{0}, kDefault), Error);
  allocator.deallocate(a);
  EXPECT_NE(allocator.allocate(90 * kMiB, kDefault), nullptr);
}

TEST(CachingAllocator, EmptyCacheKeepsLiveSegments) {
  FakeMemory memory;
  CachingAllocator allocator(kDevice, memory);
  void* a = allocator.allocate(100, kDefault);
  allocator.deallocate(allocator.allocate(30 * kMiB, kDefault));
  allocator.empty_cache();
  EXPECT_EQ(allocator.stats().reserved, 2 * kMiB);
  allocator.deallocate(a);
  allocator.empty_cache();
  EXPECT_EQ(allocator.stats().reserved, 0u);
  EXPECT_EQ(memory.used, 0u);
}

TEST(CachingAllocator, ForeignMemoryIsRefused) {
  FakeMemory memory;
  CachingAllocator allocator(kDevice, memory);
  int other = 0;
  EXPECT_THROW(allocator.record_stream(&other, kOther), Error);
  allocator.deallocate(&other);  // no effect
}

// Random requests: live blocks never overlap, stay inside segments, and everything comes back in
// the end.
TEST(CachingAllocator, LiveBlocksNeverOverlap) {
  FakeMemory memory(600 * kMiB);
  CachingAllocator allocator(kDevice, memory);
  std::mt19937_64 random(7);
  std::map<char*, size_t> live;
  for (int step = 0; step < 20000; ++step) {
    if (live.size() > 200 || (!live.empty() && random() % 2)) {
      auto victim = std::next(live.begin(), static_cast<int64_t>(random() % live.size()));
      if (random() % 8 == 0) allocator.record_stream(victim->first, kOther);
      allocator.deallocate(victim->first);
      live.erase(victim);
      memory.all_passed = random() % 2;
      continue;
    }
    const size_t bytes = 1 + (random() % (size_t{1} << (4 + random() % 21)));
    auto* data = static_cast<char*>(allocator.allocate(bytes, random() % 4 ? kDefault : kOther));
    const auto [entry, fresh] = live.emplace(data, bytes);
    ASSERT_TRUE(fresh);
    if (entry != live.begin()) {
      ASSERT_LE(std::prev(entry)->first + std::prev(entry)->second, data);
    }
    if (auto next = std::next(entry); next != live.end()) { ASSERT_LE(data + bytes, next->first); }
    auto segment = std::prev(memory.segments.upper_bound(data));
    ASSERT_LE(data + bytes, segment->first + segment->second);
  }
  for (auto& [data, bytes] : live) allocator.deallocate(data);
  allocator.empty_cache();
  EXPECT_EQ(memory.used, 0u);
  EXPECT_EQ(allocator.stats().allocated, 0u);
  EXPECT_EQ(allocator.stats().reserved, 0u);
}

TEST(CachingAllocator, ThreadsMayShareIt) {
  FakeMemory memory;
  CachingAllocator allocator(kDevice, memory);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      std::vector<void*> mine;
      for (int i = 0; i < 5000; ++i) {
        if (mine.size() < 8) {
          mine.push_back(allocator.allocate(1 + random() % 100000, kDefault));
          continue;
        }
        std::swap(mine[random() % 8], mine.back());
        allocator.deallocate(mine.back());
        mine.pop_back();
      }
      for (void* data : mine) allocator.deallocate(data);
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(allocator.stats().allocated, 0u);
}

TEST(ReadableBytes, PicksTheUnit) {
  EXPECT_EQ(readable_bytes(512), "512 B");
  EXPECT_EQ(readable_bytes(1536), "1.50 KiB");
  EXPECT_EQ(readable_bytes(size_t{3} << 30), "3.00 GiB");
}

}  // namespace
}  // namespace vt
