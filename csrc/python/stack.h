// The Python stack of the calling thread, also while other work of the thread runs without the GIL.
#pragma once
#include <atomic>
#include <vector>

#include "device/memory_history.h"

namespace vt::py {

// Innermost first: the frames now, or those at which the thread gave up the GIL if somebody wanted
// them then. None on threads that are not Python's.
std::vector<MemoryFrame> python_frames();

// Who wants frames, as bits. Not 0: a thread that gives up the GIL keeps them.
enum StackUser : int { kProfilerStacks = 1, kMemoryStacks = 2 };
inline std::atomic<int> g_stack_users{0};
inline void want_stacks(StackUser user, bool wanted) {
  if (wanted) g_stack_users.fetch_or(user);
  else g_stack_users.fetch_and(~user);
}

// With the GIL held.
void keep_frames();
void drop_frames();

}  // namespace vt::py
