// From the list of what was put off to groups that each become one kernel, in an order that keeps
// every read after the write that it needs.
#pragma once
#include <vector>

#include "fuse/node.h"

namespace vt::fuse {

// All memory that a node touches.
struct Access {
  std::vector<Range> reads, writes;
};
Access access_of(const Node& node);

struct Group {
  std::vector<int> nodes;  // positions in the list, ascending
  Space space;             // that all nodes of an elementwise group are seen in
  // Of a group with reductions: the innermost elements that make a row. Nodes over rows alone are
  // lifted: they do the same for each element of a row.
  int64_t row = 0;
  std::vector<bool> lifted;  // for each of `nodes`
};

// A window of a member as seen in the group's space.
Window seen(const Node& node, const Window& window, bool is_lifted, const Group& group);

// What limits a group: registers, and the parameters of a kernel.
inline constexpr int kMaxSteps = 48;
inline constexpr int kMaxWindows = 24;
inline constexpr int64_t kMaxRow = 16384;  // elements of a row that one block holds

// Groups in the order in which they are to run. With `fuse` false each node is a group of its own.
std::vector<Group> make_groups(const std::vector<Node>& nodes, bool fuse);

}  // namespace vt::fuse
