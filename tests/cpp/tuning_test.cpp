// Which row of the measured table holds for a unit.
#include "collectives/tuning.h"

#include <gtest/gtest.h>

namespace vt::collectives {
namespace {

Measured row(size_t up_to, Algorithm algorithm, Kind kind = Kind::kAllGather) {
  Measured made;
  made.kind = kind;
  made.up_to = up_to;
  made.algorithm = algorithm;
  return made;
}

constexpr auto kAll = [](const Measured&) { return true; };
constexpr auto kKernels = [](const Measured& row) {
  return row.algorithm != Algorithm::kCopyEngine;
};

TEST(Tuning, TheSmallestLimitThatFits) {
  const std::vector<Measured> rows = {row(1 << 20, Algorithm::kTwoShot),
                                      row(1 << 10, Algorithm::kPackets),
                                      row(1 << 5, Algorithm::kRing, Kind::kBroadcast)};
  const auto found = [&](size_t bytes) {
    return find_measured(rows, Kind::kAllGather, 2, false, bytes, kAll);
  };
  EXPECT_EQ(found(7), &rows[1]);
  EXPECT_EQ(found(1 << 10), &rows[1]);
  EXPECT_EQ(found((1 << 10) + 1), &rows[0]);
  EXPECT_EQ(found((1 << 20) + 1), nullptr);
}

TEST(Tuning, OfEqualOnesTheFirstThatCanBeUsed) {
  const std::vector<Measured> rows = {row(1 << 20, Algorithm::kCopyEngine),
                                      row(1 << 20, Algorithm::kTwoShot)};
  EXPECT_EQ(find_measured(rows, Kind::kAllGather, 2, false, 9, kAll), &rows[0]);
  EXPECT_EQ(find_measured(rows, Kind::kAllGather, 2, false, 9, kKernels), &rows[1]);
  const std::vector<Measured> only = {rows[0]};
  EXPECT_EQ(find_measured(only, Kind::kAllGather, 2, false, 9, kKernels), nullptr);
}

TEST(Tuning, PlaceAndSizeOfElements) {
  std::vector<Measured> rows = {row(64, Algorithm::kPush), row(64, Algorithm::kLines)};
  rows[0].place = "in";
  rows[0].item_bytes = 4;
  EXPECT_EQ(find_measured(rows, Kind::kAllGather, 4, true, 8, kAll), &rows[0]);
  EXPECT_EQ(find_measured(rows, Kind::kAllGather, 4, false, 8, kAll), &rows[1]);
  EXPECT_EQ(find_measured(rows, Kind::kAllGather, 2, true, 8, kAll), &rows[1]);
}

}  // namespace
}  // namespace vt::collectives
