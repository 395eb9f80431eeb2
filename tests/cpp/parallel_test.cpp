// Loops over threads cover each index once, whoever calls them and however deep; host memory and
// its numbers.
#include "device/cpu/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "base/error.h"
#include "device/cpu/memory.h"
#include "device/worker.h"

namespace vt {
namespace {

class Threads {  // as many as the test asks for, whatever the machine has
 public:
  explicit Threads(int count) : before_(num_threads()) { set_num_threads(count); }
  ~Threads() { set_num_threads(before_); }

 private:
  int before_;
};

void expect_cover(int64_t n, int64_t grain) {
  std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    EXPECT_LT(begin, end);
    for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
  });
  for (const auto& count : seen) ASSERT_EQ(count.load(), 1) << n << ' ' << grain;
}

TEST(Parallel, CoversEachIndexOnce) {
  for (int threads : {1, 2, 3, 8}) {
    const Threads scope(threads);
    for (int64_t n : {0, 1, 2, 7, 63, 64, 65, 1000, 4097})
      for (int64_t grain : {1, 2, 16, 1000, 100000}) expect_cover(n, grain);
  }
}

TEST(Parallel, LoopsInLoopsAndManyCallers) {
  const Threads scope(4);
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([] {
      for (int round = 0; round < 50; ++round) {
        std::atomic<int64_t> sum{0};
        parallel_for(40, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i)
            parallel_for(10, 1, [&](int64_t b, int64_t e) { sum += (e - b) * i; });
        });
        ASSERT_EQ(sum.load(), 10 * 40 * 39 / 2);
      }
    });
  for (std::thread& t : callers) t.join();
}

TEST(Parallel, ALimitHolds) {
  const Threads scope(8);
  const ThreadLimit limit(1);
  const auto self = std::this_thread::get_id();
  parallel_for(10000, 1, [&](int64_t, int64_t) { EXPECT_EQ(std::this_thread::get_id(), self); });
}

TEST(Parallel, BadCountsAreErrors) {
  EXPECT_THROW(set_num_threads(0), Error);
  EXPECT_THROW(set_num_threads(-3), Error);
}

TEST(Worker, RunsJobsInOrderOnItsOwnThread) {
  Worker worker(Device{});
  std::vector<int> order;
  std::atomic<bool> done{false};
  for (int i = 0; i < 1000; ++i)
    worker.submit([&, i] {
      EXPECT_TRUE(worker.is_current_thread());
      order.push_back(i);
      if (i == 999) done = true;
    });
  EXPECT_FALSE(worker.is_current_thread());
  while (!done) std::this_thread::yield();
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(CpuMemory, BlocksAreAlignedSeparateAndCounted) {
  const MemoryStats before = cpu::memory_stats();
  std::vector<std::pair<char*, size_t>> blocks;
  size_t total = 0;
  for (size_t bytes : {size_t{1}, size_t{63}, size_t{64}, size_t{65}, size_t{4096}, size_t{100000},
                       size_t{5} << 20}) {
    auto* data = static_cast<char*>(cpu::allocate(bytes));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u) << bytes;
    std::memset(data, static_cast<int>(blocks.size() + 1), bytes);
    blocks.emplace_back(data, bytes);
    total += bytes;
  }
  EXPECT_GE(cpu::memory_stats().allocated, before.allocated + total);
  for (size_t i = 0; i < blocks.size(); ++i)
    for (size_t k : {size_t{0}, blocks[i].second - 1})
      EXPECT_EQ(blocks[i].first[k], static_cast<char>(i + 1));
  for (auto [data, bytes] : blocks) cpu::deallocate(data, bytes);
  EXPECT_EQ(cpu::memory_stats().allocated, before.allocated);
}

TEST(CpuMemory, BlocksMayBeFreedByAnotherThread) {
  const MemoryStats before = cpu::memory_stats();
  for (int round = 0; round < 20; ++round) {
    std::vector<std::pair<void*, size_t>> blocks;
    std::thread([&] {
      for (size_t i = 1; i < 200; ++i) blocks.emplace_back(cpu::allocate(i * 37), i * 37);
    }).join();
    for (auto [data, bytes] : blocks) cpu::deallocate(data, bytes);
  }
  EXPECT_EQ(cpu::memory_stats().allocated, before.allocated);
}

}  // namespace
}  // namespace vt
