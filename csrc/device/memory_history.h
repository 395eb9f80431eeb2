// What an allocator did, event by event, and what it holds, block by block: the material of
// PyTorch's memory viewer.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/macros.h"

namespace vt {

struct MemoryFrame {
  std::string file, function;
  int line = 0;
};
using MemoryStack =
    std::shared_ptr<const std::vector<MemoryFrame>>;  // innermost first; may be null

struct MemoryEvent {
  enum class Action {
    kAllocate,
    kFreeRequested,
    kFreeCompleted,
    kSegmentTake,
    kSegmentGiveBack,
    kSegmentMap,
    kSegmentUnmap,
    kOutOfMemory
  };
  Action action;
  uint64_t address;  // of kOutOfMemory: the free bytes of the device
  size_t size;
  void* stream;
  int64_t time_us;  // since the epoch
  MemoryStack stack;
};

// The stack that events of the calling thread have for as long as this lives. It is asked for
// before the allocator's lock is taken: to make it may run Python, which may free tensors.
class MemoryStackScope {
 public:
  explicit MemoryStackScope(MemoryStack (*source)()) : set_(source != nullptr) {
    if (VT_UNLIKELY(set_)) enter(source);
  }
  ~MemoryStackScope() {
    if (VT_UNLIKELY(set_)) leave();
  }
  MemoryStackScope(const MemoryStackScope&) = delete;
  MemoryStackScope& operator=(const MemoryStackScope&) = delete;

 private:
  static void enter(MemoryStack (*source)());
  static void leave();
  bool set_;
};

// The last events, and the stacks that made the live blocks. Used under the allocator's lock.
class MemoryHistory {
 public:
  using StackSource = MemoryStack (*)();
  explicit MemoryHistory(size_t capacity) : capacity_(capacity) {}

  void record(MemoryEvent::Action action, const void* data, size_t size, void* stream);
  MemoryStack stack_of(const void* data) const;
  const std::deque<MemoryEvent>& events() const { return events_; }

 private:
  size_t capacity_;
  std::deque<MemoryEvent> events_;
  std::unordered_map<const void*, MemoryStack> live_;
};

struct BlockInfo {
  enum class State { kLive, kPending, kFree };
  uint64_t address = 0;
  size_t size = 0, requested = 0;
  State state = State::kFree;
  MemoryStack stack;
};

struct SegmentInfo {
  uint64_t address = 0;
  void* stream = nullptr;
  uint64_t pool = 0;
  bool small = false, expandable = false;
  std::vector<BlockInfo> blocks;
};

struct MemorySnapshot {
  std::vector<SegmentInfo> segments;
  std::vector<MemoryEvent> events;
};

}  // namespace vt
