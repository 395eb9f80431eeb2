// Running one node by itself, with the kernel that its operator has without a recording.
#pragma once
#include "fuse/node.h"

namespace vt::fuse {

void run_node(const Node& node);

}  // namespace vt::fuse
