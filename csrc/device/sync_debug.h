// Who wants to know where the host waits for a GPU without having asked for that: reading a value,
// a copy to the host, a size that depends on values. Asking to wait is not told of.
#pragma once

namespace vt {

// Called on the thread that is about to wait, before anything is queued; it may throw, and then
// nothing is. Null by default.
using WaitObserver = void (*)(const char* op);
void observe_waits(WaitObserver observer);

void note_wait(const char* op);

}  // namespace vt
