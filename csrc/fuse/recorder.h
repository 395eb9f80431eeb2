// The recording: operators of one thread are put off and run, fused, when something needs them. It
// stands between operators and kernels (kernels/table.h, g_stand_in), so it sees forward, backward
// and optimizer as one list.
#pragma once
#include <mutex>
#include <optional>

#include "fuse/passes.h"
#include "fuse/program.h"
#include "fuse/report.h"

namespace vt::fuse {

// Note [Putting work off]
// Results have memory from the start; only the launch is put off, so no tensor is of a special
// kind. What can see that memory otherwise runs the list first (device/deferred.h): copies to the
// host, events, other streams, an address handed out. A block that is freed while the list names it
// is kept until the list has run, and known to be dead: what would be written there last is not.
//
// Note [Memory that is given back early]
// Of a freed block that only elementwise operators of the list write and read, the values most
// likely stay in registers. It goes back to the allocator at once, so that a long chain takes no
// more memory than eagerly; its windows get addresses that no memory has. Where a value must lie in
// memory after all, because its readers end up in another kernel, the run allocates it anew.
class Recorder {
 public:
  // Starts recording the calling thread's operators; one recording at a time in the process.
  void begin(unsigned passes);
  // Runs what is pending and stops. Says what happened.
  Report end();
  bool active() const { return active_; }
  // The source of each kernel that the last recording made; for CPU programs, what a GPU would get.
  std::vector<std::string> sources() const {
    std::lock_guard lock(mutex_);
    return sources_;
  }

  // Is the calling thread the one that records, outside a flush?
  bool here() const;
  // Any of these passes?
  bool enabled(unsigned pass) const { return (passes_ & pass) != 0; }

  void add(Node node);
  // Counts an operator of this thread that is not put off.
  void pass_by(const char* name) {
    if (!here()) return;
    std::lock_guard lock(mutex_);  // another thread may be running the list
    ++report_.passed_by;
    ++report_.alone[name];
  }
  // The last pending node that writes any of the dense tensor x, if one does. A copy: another
  // thread may run the list at any time.
  std::optional<Node> last_writer(const Tensor& x) const;
  void flush();
  bool keep(Device device, void* data, size_t bytes) noexcept;

 private:
  struct Kept {
    Device device;
    void* data;
    size_t bytes;
  };

  bool give_back_early(Device device, const Range& block);
  // Memory for every unplaced window of these nodes; true if there was one.
  bool place(std::vector<Node>& nodes, const std::vector<int>& which, DeadRanges& dead);
  bool place(std::vector<Node>& nodes, const Window& window, Device device, DeadRanges& dead);
  void rewrite(std::vector<Node>& nodes, DeadRanges& dead);
  void run(std::vector<Node> nodes, DeadRanges dead);
  void run_alone(const Node& node);
  void run_group(std::vector<Node>& nodes, const Group& group, DeadRanges& dead);
  void stop() noexcept;
  void release() noexcept;

  mutable std::recursive_mutex mutex_;
  bool active_ = false;
  unsigned passes_ = 0;
  std::vector<Node> pending_;
  std::vector<Kept> kept_;
  size_t kept_bytes_ = 0;
  std::vector<Range> unplaced_;
  uintptr_t next_unplaced_ = kUnplaced;
  std::vector<Ref<Storage>> placed_;  // for the length of a run
  Report report_;
  std::vector<std::string> sources_;
};

Recorder& recorder();

// The kernels that run for real.
inline const Kernels& actual(Device device) {
  return device.is_cpu() ? cpu_kernels() : cuda_kernels();
}

// A handle on memory that keeps nothing alive.
Tensor unowned(const Tensor& t);

// The table that records; generated entries plus those of table.cpp.
const Kernels& recording_table();
void fill_structured(Kernels& table);  // generated

}  // namespace vt::fuse
