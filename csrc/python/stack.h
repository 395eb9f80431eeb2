// The Python stack of the calling thread, which holds the GIL.
#pragma once
#include <vector>

#include "device/memory_history.h"

namespace vt::py {

std::vector<MemoryFrame> python_frames();  // innermost first

}  // namespace vt::py
