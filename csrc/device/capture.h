// What a captured graph needs besides its kernels: the numbers that the host gives anew at each
// replay, and which capture the calling thread's work goes into now. Knows no kind of device.
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/device.h"
#include "base/error.h"
#include "base/macros.h"
#include "device/backend.h"
#include "device/generator.h"

namespace vt {

// Whoever has streams of its own of which work was captured, as a communicator has. Replays and its
// other work follow each other.
class ReplayGuest {
 public:
  virtual ~ReplayGuest() = default;
  // Throws what has gone wrong with its work so far. Then nothing of the replay is queued.
  virtual void check_replay() {}
  // The calling thread's current streams follow what the guest has queued.
  virtual void before_replay() {}
  // What the guest queues from now on follows the calling thread's current streams.
  virtual void after_replay() {}
};

// Note [Live values]
// A kernel's arguments are fixed when it is captured. What must differ from replay to replay (where
// random numbers start, the constants of an optimizer's step) is read by captured kernels from
// device memory instead. The host stays the authority: before each replay it reserves the graph's
// random numbers from the device's generator and computes the other values with the code of an
// eager step, and one small launch, which carries them by value, writes all of them in front of the
// graph on the same stream. So a replay has the bits of the eager step, and no host memory is read
// after the call returns.
class Capture {
 public:
  static constexpr size_t kMaxValueBytes = 64;

  Capture() = default;
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // Counters of the device's generator, relative to where each replay starts.
  PhiloxState reserve_random(Device device, uint64_t count);

  struct Slot {
    int number;
    const void* data;  // on the device
  };
  // A live value, now `bytes` from `value`; its address on the device is aligned to 8 bytes.
  Slot add_value(Device device, const void* value, size_t bytes);
  // What the next replay shall find in the slot. ValueError where there is no such slot, or one of
  // another size.
  void set_value(int number, const void* value, size_t bytes);
  size_t value_bytes(int number) const;  // 0 where there is no such slot
  int value_count() const { return static_cast<int>(values_.size()); }

  // Queues the write of all numbers on the current streams of their devices, and takes the random
  // numbers of one replay from the generators.
  void prepare_replay();

  // Note [Workspaces cleared at once]
  // A library clears counters in a workspace right before the kernel that counts there. In a chain
  // of kernels that is a node of its own each time, which the next kernel waits for. Where every
  // call of a graph has a small workspace to itself, for as long as the graph lives, one node in
  // front of all others clears all of them; those in the chain go (device/cuda/graph_memsets.h).
  struct Workspace {
    Device device;
    char* data;
    size_t bytes;
    int block;                       // workspaces of a device with one number lie together
    std::vector<const void*> after;  // the driver's nodes that the call follows
  };
  // Aligned to 256 bytes; nothing else of the graph is given this memory.
  void* take_workspace(Device device, size_t bytes, std::vector<const void*> after);
  const std::vector<Workspace>& workspaces() const { return workspaces_; }

  // Takes part in every replay, and lives as long as the graph.
  void add_guest(std::shared_ptr<ReplayGuest> guest);
  const std::vector<std::shared_ptr<ReplayGuest>>& guests() const { return guests_; }

  // The captures of these numbers of the driver's have begun, or are over: one of all devices, or
  // one of each. Between the two, active_capture finds it.
  void enter(std::span<const uint64_t> ids);
  void leave();
  bool has_id(uint64_t id) const;

 private:
  static constexpr int kChunkWords = 480;  // what one launch carries by value
  struct Chunk {
    uint64_t* data;  // on the device
    int used = 0;
    std::array<uint64_t, kChunkWords> host;
  };
  // Memory that workspaces are cut from.
  struct Block {
    char* data;
    size_t used, bytes;
  };
  // A chunk's first two words, if it is the first of its device, say where random numbers start.
  struct Part {
    explicit Part(Device d) : device(d) {}
    Device device;
    uint64_t random_count = 0;
    Stream replayed_on;
    std::vector<std::unique_ptr<Chunk>> chunks;
    std::vector<Block> blocks;
  };
  struct Value {
    uint64_t* host;
    size_t bytes;
  };

  Part& part_of(Device device);
  uint64_t* take_words(Part& part, int count, uint64_t** host);

  std::vector<uint64_t> ids_;
  std::vector<std::unique_ptr<Part>> parts_;
  std::vector<Value> values_;
  std::vector<std::shared_ptr<ReplayGuest>> guests_;
  std::vector<Workspace> workspaces_;
};

namespace detail {
extern std::atomic<int> active_captures;
VT_NOINLINE Capture* find_capture(Device device);
}  // namespace detail

// The capture that the stream takes part in, null for none.
Capture* capture_of(Stream stream);

// The capture that the calling thread's current stream of the device takes part in; null, for the
// price of one load, where nothing is being captured.
inline Capture* active_capture(Device device) {
  if (VT_LIKELY(detail::active_captures.load(std::memory_order_relaxed) == 0)) return nullptr;
  return detail::find_capture(device);
}

// For what a replay could not do again: throws a RuntimeError that names the operation, before the
// driver refuses it and the whole capture is lost. `why` is a main clause about the operation.
void refuse_in_capture(const char* op, const char* why);
inline void check_not_capturing(const char* op, Device device, const char* why) {
  if (VT_UNLIKELY(active_capture(device) != nullptr)) refuse_in_capture(op, why);
}
// For what concerns the device as a whole, whatever streams are captured.
inline bool any_capture() {
  return VT_UNLIKELY(detail::active_captures.load(std::memory_order_relaxed) != 0);
}

}  // namespace vt
