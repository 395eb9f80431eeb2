// The ring of events.
#include "device/memory_history.h"

#include <chrono>
#include <utility>

namespace vt {
namespace {

thread_local MemoryStack t_stack;

}  // namespace

void MemoryStackScope::enter(MemoryStack (*source)()) {
  MemoryStack stack = source();  // may come here again, for a tensor that it frees
  t_stack = std::move(stack);
}
void MemoryStackScope::leave() { t_stack.reset(); }

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
      action == Action::kFreeCompleted ? nullptr : t_stack};
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
