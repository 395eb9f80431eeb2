// Which block works on what, and when.
#pragma once
#include <algorithm>
#include <cstdint>

#include "base/macros.h"

namespace vt::cuda::attention_gradients {

// Note [Order of items]
// An item is a tile of rows of a head that a block keeps. Under a causal mask items differ in
// length. Heads come in groups, so that what streams by stays in the L2 cache; in a group the
// longest items of all its heads come first. Blocks take items in rounds, every other round
// backwards. Where the blocks are a whole multiple of a group's heads, all get the same work but
// for a percent; groups of three quarters of the blocks cost an eighth (32x12 heads of 1024
// tokens).
struct Order {
  int items, tiles, heads_of_group;  // tiles: of a head
};

// A quarter of the blocks, or the next smaller whole part of them: then four blocks that work on a
// head at the same time share what they read. Half of them where heads are short.
inline int heads_of_group(int blocks, int64_t heads, int64_t tiles) {
  int parts = std::min(blocks, tiles < 8 ? 2 : 4);
  while (blocks % parts != 0) ++parts;
  return static_cast<int>(std::min<int64_t>(heads, blocks / parts));
}

struct Slot {
  int head, tile;  // head: of all batches; tile: the longest first
  bool none;       // the round is incomplete
};
VT_HD Slot slot_of(const Order& order, int block, int blocks, int round) {
  const int at = round * blocks + (round % 2 ? blocks - 1 - block : block);
  if (at >= order.items) return {0, 0, true};
  const int group = at / (order.heads_of_group * order.tiles), heads = order.items / order.tiles;
  const int first = group * order.heads_of_group, rest = at - first * order.tiles;
  const int count = order.heads_of_group < heads - first ? order.heads_of_group : heads - first;
  return {first + rest % count, rest / count, false};
}

}  // namespace vt::cuda::attention_gradients
