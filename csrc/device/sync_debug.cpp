// The one observer of waits.
#include "device/sync_debug.h"

#include <atomic>

namespace vt {
namespace {

std::atomic<WaitObserver> g_observer{nullptr};

}  // namespace

void observe_waits(WaitObserver observer) { g_observer.store(observer); }

void note_wait(const char* op) {
  if (const WaitObserver observer = g_observer.load(std::memory_order_relaxed)) observer(op);
}

}  // namespace vt
