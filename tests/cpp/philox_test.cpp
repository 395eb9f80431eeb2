// The random stream: known answers of Philox4x32-10, ranges, and generators that hand out each
// counter once.
#include "device/philox.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "device/generator.h"

namespace vt {
namespace {

void expect_words(const Philox4& got, std::initializer_list<uint32_t> wanted) {
  EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), got.v));
}

TEST(Philox, KnownAnswers) {
  // The all-zero vector of Random123's kat_vectors; the others need counter words that this
  // generator keeps at zero.
  expect_words(philox(0, 0), {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
}

TEST(Philox, NeighboursShareNothing) {
  std::vector<uint32_t> words;
  for (uint64_t seed : {0ull, 1ull, 1ull << 32})
    for (uint64_t counter : {0ull, 1ull, 2ull, 1ull << 32})
      for (uint32_t word : philox(seed, counter).v) words.push_back(word);
  std::sort(words.begin(), words.end());
  EXPECT_EQ(std::adjacent_find(words.begin(), words.end()), words.end());
}

TEST(Philox, UniformsStayBelowOne) {
  EXPECT_EQ(uniform_float(0), 0.0f);
  EXPECT_LT(uniform_float(0xffffffffu), 1.0f);
  EXPECT_EQ(uniform_double(0, 0), 0.0);
  EXPECT_LT(uniform_double(0xffffffffu, 0xffffffffu), 1.0);
}

TEST(Generator, ThreadsNeverGetTheSameCounters) {
  Generator generator;
  generator.seed(5);
  constexpr int kThreads = 4, kEach = 2000;
  std::vector<std::vector<uint64_t>> starts(kThreads);
  std::vector<std::thread> threads;
  for (auto& mine : starts)
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) mine.push_back(generator.reserve(3).offset);
    });
  for (std::thread& t : threads) t.join();
  std::vector<uint64_t> all;
  for (const auto& mine : starts) all.insert(all.end(), mine.begin(), mine.end());
  std::sort(all.begin(), all.end());
  for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], 3 * i);
  generator.seed(5);
  EXPECT_EQ(generator.state().offset, 0u);
  EXPECT_EQ(generator.initial_seed(), 5u);
}

}  // namespace
}  // namespace vt
