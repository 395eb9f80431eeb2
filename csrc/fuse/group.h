// From the list of what was put off to groups that each become one kernel, in an order that keeps
// every read after the write that it needs.
#pragma once
#include <vector>

#include "fuse/node.h"

namespace vt::fuse {

struct Group {
  std::vector<int> nodes;  // positions in the list, ascending
  Space space;             // that all nodes of an elementwise group are seen in
};

// What limits a group: registers, and the parameters of a kernel.
inline constexpr int kMaxSteps = 48;
inline constexpr int kMaxWindows = 24;

// Groups in the order in which they are to run. With `fuse` false each node is a group of its own.
std::vector<Group> make_groups(const std::vector<Node>& nodes, bool fuse);

}  // namespace vt::fuse
