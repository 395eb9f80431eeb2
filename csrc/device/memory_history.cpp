// The ring of events.
#include "device/memory_history.h"

#include <chrono>

namespace vt {

void MemoryHistory::record(MemoryEvent::Action action, const void* data, size_t size,
                           void* stream) {
  using Clock = std::chrono::system_clock;
  using Action = MemoryEvent::Action;
  MemoryEvent event{
      action,
      reinterpret_cast<uintptr_t>(data),
      size,
      stream,
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now().time_since_epoch())
          .count(),
      nullptr};
  if (stacks_ && action != Action::kFreeCompleted) event.stack = stacks_();
  if (action == Action::kAllocate && event.stack) live_[data] = event.stack;
  if (action == Action::kFreeCompleted) live_.erase(data);
  if (capacity_ == 0) return;
  if (events_.size() >= capacity_) events_.pop_front();
  events_.push_back(std::move(event));
}

MemoryStack MemoryHistory::stack_of(const void* data) const {
  const auto found = live_.find(data);
  return found == live_.end() ? nullptr : found->second;
}

}  // namespace vt
