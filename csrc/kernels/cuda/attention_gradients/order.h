// Which block works on what, and when.
#pragma once
#include <algorithm>
#include <cstdint>

#include "base/macros.h"

namespace vt::cuda::attention_gradients {

// Note [Order of items]
// An item is a tile of rows of a head that a block keeps. Under a causal mask items differ in
// length. Heads come in groups whose streamed tensors stay in the L2 cache; in a group the longest
// items of all its heads come first. Blocks take items in rounds, every other round backwards.
// Where the blocks are a whole multiple of a group's heads, all get the same work but for a
// percent; groups of three quarters of the blocks cost an eighth (32x12 heads of 1024 tokens).
struct Order {
  int items, tiles, heads_of_group;  // tiles: of a head
};

// A whole part of the blocks, half of them at most, so that the streamed tensors of as many heads
// fit in `room`: then blocks that work on a head at the same time share what they read.
inline int heads_of_group(int blocks, int64_t heads, int64_t bytes_of_head, int64_t room) {
  const int64_t most = std::max<int64_t>(1, room / std::max<int64_t>(1, bytes_of_head));
  int parts = std::min(blocks, 2);
  while (parts < blocks && (blocks % parts != 0 || blocks / parts > most)) ++parts;
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
