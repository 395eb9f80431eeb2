// The deadline for ranks that share a GPU: which of them hold the others up, as seen from the host.
#pragma once
#include <atomic>
#include <chrono>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "collectives/collective.h"
#include "device/cuda/event.h"

namespace vt::collectives::gpu {

// Note [Late ranks of one device]
// One kernel does the part of all ranks of a device, and waits in its stream for what each has
// queued before. Where that does not end for one of them, no kernel of the device is there to give
// up. So the host looks at the marks of such units: from when it sees that some have passed and
// others have not, those have until the deadline. It looks whenever the communicator is called or
// waited for.
class LateRanks {
 public:
  LateRanks(const fabric::Mesh& mesh, double timeout_seconds);
  ~LateRanks();
  LateRanks(const LateRanks&) = delete;
  LateRanks& operator=(const LateRanks&) = delete;

  // Before the unit is queued. Only units that some ranks of a device have arrived at by themselves
  // are looked at.
  void watch(const Unit& unit);
  // Takes a mark that is not needed any more otherwise; false: it is not one that is looked at.
  bool take(void* mark);

  // A mask of the ranks that were not there by the deadline, 0 for none.
  uint32_t overdue();
  // Of those that are late now, whether or not it is their time.
  uint32_t late();
  // Who waits for those that are overdue, and how long; "" if none is.
  std::string sentence();
  void clear();  // of units that are done, or given up

 private:
  using Clock = std::chrono::steady_clock;
  struct Arrival {
    cuda::Event* mark = nullptr;
    uint32_t ranks = 0;  // mask of those it stands for
    bool taken = false, passed = false;
  };
  struct Watched {
    uint64_t sequence = 0;
    Kind kind = Kind::kBarrier;
    std::vector<Arrival> arrivals;
    Clock::time_point since;  // when some were seen to wait
    bool waiting = false;
  };

  void look(bool at_once);
  void drop_first();
  bool is_taken(const Watched& unit) const;

  fabric::Mesh mesh_;
  Clock::duration timeout_;
  std::atomic<bool> any_{false};
  std::mutex mutex_;
  std::deque<Watched> units_;  // in their order; the first is looked at
  Clock::time_point looked_;
  uint32_t late_ = 0, overdue_ = 0;
};

}  // namespace vt::collectives::gpu
