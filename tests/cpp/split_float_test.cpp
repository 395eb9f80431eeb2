// Float32 numbers as three pieces: exact for all that may be split, NaN beyond; and the plans of
// products that use them.
#include "kernels/split_float.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "kernels/split_plan.h"

namespace vt {
namespace {

struct Pieces {
  float high, middle, low;
};
Pieces pieces_of(float x, bool second) {
  const float other = 1.25f * kSplitScale;
  const SplitPair pair =
      second ? split_pair(other, x * kSplitScale) : split_pair(x * kSplitScale, other);
  const auto piece = [&](int i) {
    return second ? second_of(pair.piece[i]) : first_of(pair.piece[i]);
  };
  return {piece(0), piece(1), piece(2)};
}

void expect_exact(float x) {
  for (bool second : {false, true}) {
    const Pieces p = pieces_of(x, second);
    const double sum = double{p.high} + double{p.middle} + double{p.low};
    ASSERT_EQ(sum, double{x} * double{kSplitScale}) << x;
    ASSERT_LE(std::abs(p.middle), std::ldexp(std::abs(p.high), -8)) << x;
    ASSERT_LE(std::abs(p.low), std::ldexp(std::abs(p.high), -16)) << x;
  }
}

TEST(SplitFloat, EveryNumberIsTheSumOfItsPieces) {
  std::mt19937 bits(1);
  for (int i = 0; i < 2'000'000; ++i) {
    const float x = float_of_bits(bits());
    if (std::abs(x) < 0x1p111f) expect_exact(x);
  }
}

TEST(SplitFloat, NumbersOnTheEdge) {
  const float edges[] = {
      0.0f, -0.0f,         0x1p-149f, 0x1p-126f,     0x0.fffffep-126f, 0x1.fffffep110f,
      1.0f, 0x1.fffffep0f, 0x1.01p0f, 0x1.00ffffp0f, 0x1.7f7f7ep3f,    0x1.808080p3f};
  for (float x : edges) {
    expect_exact(x);
    expect_exact(-x);
  }
}

TEST(SplitFloat, WhatCannotBeSplitBecomesNaN) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (float x : {infinity, -infinity, std::nanf(""), 0x1p112f, -0x1.fffffep127f})
    EXPECT_TRUE(std::isnan(pieces_of(x, false).low)) << x;
}

// What is left out of a product is at most as much as rounding it may cost.
TEST(SplitFloat, SixProductsAreAProduct) {
  std::mt19937 random(2);
  std::uniform_real_distribution<float> between(1.0f, 2.0f);
  double worst = 0;
  for (int i = 0; i < 2'000'000; ++i) {
    const float x = between(random), y = between(random);
    const Pieces a = pieces_of(x, false), b = pieces_of(y, false);
    const double six = double{a.high} * b.high + double{a.high} * b.middle +
                       double{a.middle} * b.high + double{a.middle} * b.middle +
                       double{a.high} * b.low + double{a.low} * b.high;
    const double exact = double{x} * y * double{kSplitScale} * double{kSplitScale};
    worst = std::max(worst, std::abs(six - exact) / exact);
  }
  EXPECT_LE(worst, 0x1p-24);
}

TEST(SplitPlan, PartsCoverK) {
  for (int64_t m : {1, 64, 100, 4096})
    for (int64_t n : {4, 128, 1000})
      for (int64_t k : {1, 16, 130, 8192, 65536}) {
        const SplitPlan plan = plan_split(m, n, k, 1, 132);
        EXPECT_EQ(plan.part % 64, 0);
        EXPECT_GE(int64_t{plan.parts} * plan.part, k);
        EXPECT_LT(int64_t{plan.parts - 1} * plan.part, k);
      }
}

TEST(SplitPlan, SmallProductsStayPlain) {
  EXPECT_FALSE(split_pays(plan_split(1, 4, 16, 1, 132), 1, 4, 16, 1, 132));
  EXPECT_TRUE(split_pays(plan_split(8192, 1024, 256, 1, 132), 8192, 1024, 256, 1, 132));
  EXPECT_TRUE(split_pays(plan_split(768, 256, 8192, 1, 132), 768, 256, 8192, 1, 132));
}

}  // namespace
}  // namespace vt
