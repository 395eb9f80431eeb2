// Structured kernels in the recording table.
#pragma once
#include "fuse/node.h"

namespace vt::fuse {

// Sets what a call reads, writes and runs from its arguments.
void prepare_call(Node& node);

void fill_calls(Kernels& table);

}  // namespace vt::fuse
