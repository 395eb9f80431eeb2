// The one pointer by which work that was put off is run. A recording (fuse/) puts kernels off;
// whatever copies, orders or reads memory without going through the table of kernels calls
// run_deferred first.
#pragma once
#include <atomic>

#include "base/macros.h"

namespace vt {

extern std::atomic<void (*)()> g_run_deferred;  // null while nothing records

inline void run_deferred() {
  if (auto* run = g_run_deferred.load(std::memory_order_relaxed); VT_UNLIKELY(run != nullptr))
    run();
}

}  // namespace vt
