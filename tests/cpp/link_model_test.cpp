// The model of links: near what was measured on two H200s, and steady where nothing was.
#include "collectives/link_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace vt::collectives {
namespace {

constexpr size_t kKiB = 1 << 10, kMiB = 1 << 20;

TEST(LinkModel, IsNearWhatWasMeasured) {
  const LinkModel pair(2, 1);
  const struct {
    Algorithm algorithm;
    size_t bytes;
    double us;
  } measured[] = {
      {Algorithm::kPackets, 512 * kKiB, 6.9},
      {Algorithm::kPackets, 2 * kMiB, 16.4},
      {Algorithm::kTwoShot, kMiB, 9.9},
      {Algorithm::kTwoShot, 8 * kMiB, 31.6},
      {Algorithm::kTwoShot, 64 * kMiB, 206},
      {Algorithm::kPush, 8 * kMiB, 32.2},
      {Algorithm::kPush, 64 * kMiB, 193.5},
      {Algorithm::kPush, 256 * kMiB, 753},
      {Algorithm::kPush, 1024 * kMiB, 2962},
      {Algorithm::kCopyEngine, 256 * kMiB, 737},
      {Algorithm::kCopyEngine, 512 * kMiB, 1442},
      {Algorithm::kCopyEngine, 1024 * kMiB, 2861},
      {Algorithm::kCopyEngine, 4096 * kMiB, 11376},
  };
  for (const auto& row : measured) {
    const double us = pair.all_reduce(row.algorithm, row.bytes);
    EXPECT_NEAR(us, row.us, 0.05 * row.us) << name(row.algorithm) << ' ' << row.bytes;
  }
}

// From the one that starts soonest to the one that moves bytes fastest, each at most once.
TEST(LinkModel, ChoicesFollowEachOther) {
  const std::vector<Algorithm> order{Algorithm::kPackets, Algorithm::kPackets2, Algorithm::kTwoShot,
                                     Algorithm::kPush, Algorithm::kCopyEngine};
  for (int ranks : {2, 3, 4, 6, 8})
    for (int here : {1, 2, 4}) {
      if (here == ranks || ranks % here != 0) continue;
      const LinkModel model(ranks, here);
      size_t at = 0;
      for (double bytes = 16; bytes < 16e9; bytes *= 1.05) {
        const auto fastest = model.fastest_all_reduce(static_cast<size_t>(bytes), true);
        const size_t now = std::find(order.begin(), order.end(), fastest) - order.begin();
        EXPECT_GE(now, at) << ranks << " ranks, " << bytes << " bytes";
        at = now;
      }
      EXPECT_GE(at, 3u);
      EXPECT_NE(model.fastest_all_reduce(4096 * kMiB, false), Algorithm::kCopyEngine);
    }
}

TEST(LinkModel, CopyEnginesAreForLargeParts) {
  for (int ranks : {2, 4, 8})
    for (Kind kind : {Kind::kAllGather, Kind::kReduceScatter, Kind::kBroadcast, Kind::kGather,
                      Kind::kReduce, Kind::kSendRecv}) {
      const LinkModel model(ranks, 1);
      EXPECT_FALSE(model.copies_pay(kind, 4 * kMiB)) << name(kind) << ' ' << ranks;
      EXPECT_TRUE(model.packets_pay(kind, 4 * kKiB)) << name(kind) << ' ' << ranks;
      EXPECT_FALSE(model.packets_pay(kind, 4 * kMiB)) << name(kind) << ' ' << ranks;
      EXPECT_TRUE(model.copies_pay(kind, 384 * kMiB)) << name(kind) << ' ' << ranks;
    }
}

}  // namespace
}  // namespace vt::collectives
