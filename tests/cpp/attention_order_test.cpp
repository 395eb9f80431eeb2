// The order in which blocks work on gradients of attention: everything once, and even shares.
#include "kernels/cuda/attention_gradients/order.h"

#include <gtest/gtest.h>

#include <map>
#include <utility>

namespace vt::cuda::attention_gradients {
namespace {

TEST(AttentionOrder, EveryTileOfEveryHeadIsWorkedOnOnce) {
  for (int blocks : {1, 7, 132})
    for (int heads : {1, 5, 24, 384})
      for (int tiles : {1, 3, 8})
        for (int most : {1, 7, 33, 500}) {
          const Order order{heads * tiles, tiles, std::min(most, heads)};
          std::map<std::pair<int, int>, int> seen;
          for (int round = 0; round * blocks < order.items; ++round)
            for (int block = 0; block < blocks; ++block) {
              const Slot slot = slot_of(order, block, blocks, round);
              if (!slot.none) ++seen[{slot.head, slot.tile}];
            }
          EXPECT_EQ(static_cast<int>(seen.size()), order.items);
          for (const auto& [place, count] : seen) {
            EXPECT_EQ(count, 1);
            EXPECT_TRUE(place.first < heads && place.second < tiles);
          }
        }
}

TEST(AttentionOrder, GroupsAreWholePartsOfTheBlocks) {
  EXPECT_EQ(heads_of_group(132, 384, 8), 33);
  EXPECT_EQ(heads_of_group(132, 384, 2), 66);
  EXPECT_EQ(heads_of_group(114, 384, 8), 19);
  EXPECT_EQ(heads_of_group(132, 20, 8), 20);
  EXPECT_EQ(heads_of_group(1, 384, 8), 1);
  EXPECT_EQ(heads_of_group(113, 384, 8), 1);  // a prime
}

TEST(AttentionOrder, BlocksGetTheSameWorkUnderACausalMask) {
  const int blocks = 132, heads = 384, tiles = 8;
  const Order order{heads * tiles, tiles, heads_of_group(blocks, heads, tiles)};
  int most = 0, all = 0;
  for (int block = 0; block < blocks; ++block) {
    int work = 0;
    for (int round = 0; round * blocks < order.items; ++round) {
      const Slot slot = slot_of(order, block, blocks, round);
      if (!slot.none) work += tiles - slot.tile;
    }
    most = std::max(most, work);
    all += work;
  }
  EXPECT_LT(most * blocks, all * 1.03);
}

}  // namespace
}  // namespace vt::cuda::attention_gradients
