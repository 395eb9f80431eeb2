// Counters, limits, history and snapshots of the caching allocator.
#include <gtest/gtest.h>

#include "base/error.h"
#include "fake_memory.h"

namespace vt {
namespace {

using Action = MemoryEvent::Action;

int64_t counter(const CachingAllocator& allocator, const std::string& name) {
  for (const auto& [key, value] : allocator.counters())
    if (key == name) return value;
  ADD_FAILURE() << "no counter " << name;
  return -1;
}

TEST(AllocatorCounters, FollowBlocks) {
  FakeMemory memory;
  CachingAllocator allocator(kDevice, memory);
  void* a = allocator.allocate(1000, kDefault);
  void* b = allocator.allocate(30 * kMiB, kDefault);
  EXPECT_EQ(counter(allocator, "requested_bytes.all.current"), 1000 + int64_t{30 * kMiB});
  EXPECT_EQ(counter(allocator, "allocated_bytes.small_pool.current"), 1024);
  EXPECT_EQ(counter(allocator, "allocation.large_pool.current"), 1);
  EXPECT_EQ(counter(allocator, "inactive_split_bytes.all.current"), int64_t{2 * kMiB} - 1024);
  EXPECT_EQ(counter(allocator, "segment.all.current"), 2);
  allocator.record_stream(b, kOther);
  allocator.deallocate(b);  // no tensor holds it, the other stream still may
  EXPECT_EQ(counter(allocator, "allocated_bytes.large_pool.current"), 0);
  EXPECT_EQ(counter(allocator, "allocated_bytes.large_pool.freed"), int64_t{30 * kMiB});
  EXPECT_EQ(counter(allocator, "active_bytes.large_pool.current"), int64_t{30 * kMiB});
  allocator.deallocate(a);
  allocator.empty_cache();
  for (const char* name :
       {"active_bytes", "inactive_split_bytes", "reserved_bytes", "requested_bytes"})
    EXPECT_EQ(counter(allocator, std::string(name) + ".all.current"), 0) << name;
  EXPECT_EQ(counter(allocator, "num_device_free"), 2);
  EXPECT_EQ(counter(allocator, "reserved_bytes.all.peak"), int64_t{32 * kMiB});
  allocator.reset_peak();
  allocator.reset_sums();
  EXPECT_EQ(counter(allocator, "reserved_bytes.all.peak"), 0);
  EXPECT_EQ(counter(allocator, "allocation.all.allocated"), 0);
  EXPECT_EQ(counter(allocator, "allocation.all.freed"), 0);
}

TEST(AllocatorLimit, CapsWhatIsReserved) {
  FakeMemory memory(1000 * kMiB);
  CachingAllocator allocator(kDevice, memory);
  EXPECT_THROW(allocator.set_limit(0), Error);
  EXPECT_THROW(allocator.set_limit(1.5), Error);
  allocator.set_limit(0.1);
  void* a = allocator.allocate(90 * kMiB, kDefault);
  try {
    allocator.allocate(30 * kMiB, kDefault);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("may reserve 100.00 MiB only"), std::string::npos);
  }
  EXPECT_EQ(counter(allocator, "num_ooms"), 1);
  EXPECT_EQ(counter(allocator, "num_alloc_retries"), 1);
  allocator.deallocate(a);
  EXPECT_NE(allocator.allocate(100 * kMiB, kOther), nullptr);
  allocator.set_limit(1);
  EXPECT_NE(allocator.allocate(300 * kMiB, kDefault), nullptr);
}

TEST(AllocatorHistory, KeepsTheLastEventsWithTheirStacks) {
  FakeMemory memory;
  CachingAllocator allocator(kDevice, memory);
  allocator.record_history(3, [] {
    return MemoryStack(
        std::make_shared<std::vector<MemoryFrame>>(std::vector<MemoryFrame>{{"a.py", "f", 7}}));
  });
  void* a = allocator.allocate(1000, kDefault);
  const MemorySnapshot before = allocator.snapshot();
  ASSERT_EQ(before.events.size(), 2u);
  EXPECT_EQ(before.events[0].action, Action::kSegmentTake);
  EXPECT_EQ(before.events[1].action, Action::kAllocate);
  ASSERT_TRUE(before.segments.at(0).blocks.at(0).stack);
  EXPECT_EQ(before.segments[0].blocks[0].stack->at(0).line, 7);
  EXPECT_EQ(before.segments[0].blocks[0].requested, 1000u);
  EXPECT_EQ(before.segments[0].blocks.size(), 2u);
  allocator.deallocate(a);
  const MemorySnapshot after = allocator.snapshot();
  ASSERT_EQ(after.events.size(), 3u);
  EXPECT_EQ(after.events[2].action, Action::kFreeCompleted);
  EXPECT_EQ(after.segments.at(0).blocks.size(), 1u);
  allocator.stop_history();
  EXPECT_TRUE(allocator.snapshot().events.empty());
}

}  // namespace
}  // namespace vt
