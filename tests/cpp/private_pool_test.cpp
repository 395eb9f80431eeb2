// Private pools of the caching allocator: who allocates from them, what comes back, when their
// memory goes.
#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "fake_memory.h"

namespace vt {
namespace {

void* const kCapture = reinterpret_cast<void*>(uintptr_t{0x2000});
void* const kSide = reinterpret_cast<void*>(uintptr_t{0x3000});

class PrivatePool : public testing::Test {
 protected:
  void begin() {
    allocator.begin_pool(pool, kCapture);
    memory.captures[kCapture] = 7;
  }
  void end() {
    memory.captures.clear();
    allocator.end_pool(pool, kCapture);
  }

  FakeMemory memory;
  CachingAllocator allocator{kDevice, memory};
  uint64_t pool = allocator.create_pool();
};

TEST_F(PrivatePool, HasSegmentsOfItsOwn) {
  allocator.deallocate(allocator.allocate(4096, kCapture));
  EXPECT_EQ(memory.takes, 1);
  begin();
  void* inside = allocator.allocate(4096, kCapture);
  EXPECT_EQ(memory.takes, 2);
  allocator.deallocate(inside);
  EXPECT_EQ(allocator.allocate(4096, kCapture), inside);
  allocator.deallocate(inside);
  end();
  // Outside, the stream uses the shared pool again, and what the pool holds stays in it.
  EXPECT_NE(allocator.allocate(4096, kCapture), inside);
  EXPECT_EQ(memory.takes, 2);
  allocator.empty_cache();
  EXPECT_EQ(memory.segments.size(), 2u);
}

TEST_F(PrivatePool, PeakCountsWhatAReplayUses) {
  allocator.begin_pool(pool, kCapture);
  void* first = allocator.allocate(4096, kCapture);
  void* second = allocator.allocate(8192, kCapture);
  allocator.deallocate(first);
  const int64_t most = allocator.end_pool(pool, kCapture);
  EXPECT_EQ(most, 4096 + 8192);
  allocator.reset_peak();
  EXPECT_EQ(allocator.stats().peak_allocated, 8192u);
  allocator.count_pool(pool, most);
  EXPECT_EQ(allocator.stats().peak_allocated, 4096u + 8192u);
  EXPECT_EQ(allocator.stats().allocated, 8192u);
  allocator.deallocate(second);
}

TEST_F(PrivatePool, ServesStreamsThatJoinedTheCaptureFromAnyThread) {
  begin();
  memory.captures[kSide] = 7;
  char* main = static_cast<char*>(allocator.allocate(4096, kCapture));
  void *side = nullptr, *worker = nullptr, *other = nullptr;
  std::thread([&] {
    worker = allocator.allocate(4096, kCapture);
    side = allocator.allocate(4096, kSide);
    other = allocator.allocate(4096, kOther);  // not part of the capture
  }).join();
  EXPECT_EQ(worker, main + 4096);
  EXPECT_EQ(memory.takes, 3);
  for (void* data : {static_cast<void*>(main), side, worker, other}) allocator.deallocate(data);
  end();
  allocator.empty_cache();
  EXPECT_EQ(memory.segments.size(), 2u);  // the pool's, one for each stream
  allocator.release_pool(pool);
  EXPECT_EQ(memory.segments.size(), 0u);
}

TEST_F(PrivatePool, IsSharedByGraphsThatEnterItInTurn) {
  begin();
  void* first = allocator.allocate(30 * kMiB, kCapture);
  allocator.deallocate(first);
  end();
  allocator.retain_pool(pool);
  allocator.release_pool(pool);
  begin();
  EXPECT_EQ(allocator.allocate(30 * kMiB, kCapture), first);
  end();
  EXPECT_EQ(memory.takes, 1);
}

TEST_F(PrivatePool, GoesWhenItsLastTensorGoes) {
  begin();
  void* kept = allocator.allocate(30 * kMiB, kCapture);
  void* freed = allocator.allocate(40 * kMiB, kCapture);
  allocator.deallocate(freed);
  end();
  EXPECT_EQ(memory.segments.size(), 2u);
  allocator.release_pool(pool);
  EXPECT_EQ(memory.segments.size(), 1u);
  EXPECT_THROW(allocator.begin_pool(pool, kCapture), Error);
  allocator.deallocate(kept);
  EXPECT_EQ(memory.segments.size(), 0u);
  EXPECT_EQ(allocator.stats().reserved, 0u);
}

TEST_F(PrivatePool, ReleasedDuringItsCaptureLivesToTheEnd) {
  begin();
  allocator.deallocate(allocator.allocate(30 * kMiB, kCapture));
  allocator.release_pool(pool);
  EXPECT_EQ(memory.segments.size(), 1u);
  end();
  EXPECT_EQ(memory.segments.size(), 0u);
}

TEST_F(PrivatePool, ReleasedDuringAnotherCaptureWaits) {
  const uint64_t second = allocator.create_pool();
  begin();
  allocator.deallocate(allocator.allocate(30 * kMiB, kCapture));
  end();
  allocator.begin_pool(second, kSide);
  allocator.release_pool(pool);
  EXPECT_EQ(memory.segments.size(), 1u);
  allocator.end_pool(second, kSide);
  EXPECT_EQ(memory.segments.size(), 0u);
  allocator.release_pool(second);
}

TEST_F(PrivatePool, FencesWaitForTheEndOfTheCapture) {
  void* outside = allocator.allocate(40 * kMiB, kDefault);
  begin();
  void* inside = allocator.allocate(30 * kMiB, kCapture);
  allocator.record_stream(inside, kSide);
  allocator.record_stream(outside, kSide);
  allocator.deallocate(inside);
  allocator.deallocate(outside);
  EXPECT_TRUE(memory.fences.empty());
  EXPECT_NE(allocator.allocate(30 * kMiB, kCapture), inside);
  EXPECT_NE(allocator.allocate(40 * kMiB, kDefault), outside);
  EXPECT_THROW(allocator.empty_cache(), Error);
  end();
  EXPECT_EQ(memory.fences.size(), 2u);
  memory.all_passed = true;
  EXPECT_EQ(allocator.allocate(40 * kMiB, kDefault), outside);
  EXPECT_TRUE(memory.fences.empty());
}

TEST_F(PrivatePool, NothingIsGivenBackDuringACapture) {
  memory.total = 100 * kMiB;
  allocator.deallocate(allocator.allocate(60 * kMiB, kDefault));
  begin();
  try {
    allocator.allocate(60 * kMiB, kCapture);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("a graph is being captured"), std::string::npos);
  }
  end();
  EXPECT_NE(allocator.allocate(60 * kMiB, kCapture), nullptr);
}

TEST_F(PrivatePool, MisuseIsAnError) {
  EXPECT_THROW(allocator.end_pool(pool, kCapture), Error);
  EXPECT_THROW(allocator.begin_pool(pool + 1, kCapture), Error);
  begin();
  EXPECT_THROW(allocator.begin_pool(pool, kCapture), Error);
  EXPECT_THROW(allocator.end_pool(pool, kSide), Error);
  end();
  allocator.release_pool(pool);
  EXPECT_THROW(allocator.release_pool(pool), Error);
  EXPECT_THROW(allocator.retain_pool(pool), Error);
}

}  // namespace
}  // namespace vt
