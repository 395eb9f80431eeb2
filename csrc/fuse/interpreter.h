// A program on a CPU device: a piece at a time that fits in the cache, each step by the CPU's own
// kernel.
#pragma once
#include "fuse/program.h"

namespace vt::fuse {

void run_on_cpu(const Program& program);

}  // namespace vt::fuse
