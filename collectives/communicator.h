// The communicator: matches the calls of the ranks of a mesh into units, checks that they agree,
// and has an engine run each unit once its last rank has arrived. Never blocks a rank that only
// arrives; never waits without a deadline.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <span>

#include "collectives/work.h"
#include "device/worker.h"

namespace vt::collectives {

// What all ranks of a group call have in common.
struct Request {
  Kind kind = Kind::kBarrier;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
};

// What a host thread that waits for others calls every tenth of a second, so that the language
// above can hear of an interrupt; what it throws ends the wait and aborts the communicator.
void set_interrupt_check(void (*check)());

class Communicator {
 public:
  explicit Communicator(const fabric::Mesh& mesh);  // deadline: VIBETENSOR_FABRIC_TIMEOUT
  Communicator(const fabric::Mesh& mesh, const Options& options);
  ~Communicator();

  const fabric::Mesh& mesh() const { return mesh_; }
  const Options& options() const { return options_; }

  // Group calls: one thread calls for all ranks; tensors in the order of the mesh, undefined ones
  // where the kind asks nothing of a rank. Ordered after what is queued on the calling thread's
  // current streams and before what is queued there later. For sendrecv, `to[r]` is the rank that
  // gets the input of r, or kNoRank; no two ranks may send to the same.
  void run(const Request& request, std::span<const Tensor> inputs, std::span<const Tensor> outputs,
           std::span<const int> to = {});
  // The same without the second half of the order: that comes with the Work's wait().
  Work start(const Request& request, std::span<const Tensor> inputs,
             std::span<const Tensor> outputs, std::span<const int> to = {});

  void all_reduce(std::span<const Tensor> inputs, std::span<const Tensor> outputs, ReduceOp op) {
    run({Kind::kAllReduce, op}, inputs, outputs);
  }
  void all_reduce(std::span<const Tensor> tensors, ReduceOp op) {
    all_reduce(tensors, tensors, op);
  }
  void broadcast(std::span<const Tensor> tensors, int root) {
    run({Kind::kBroadcast, ReduceOp::kSum, root}, tensors, tensors);
  }
  void barrier() { run({Kind::kBarrier}, {}, {}); }

  // Rank calls: each rank calls for itself, from any thread, in the same order as the others.
  // arrive() returns at once; the last rank to arrive starts the unit. The tensors may not be
  // touched before the rank's wait(); they live until then.
  void arrive(int rank, Call call);
  // Orders the rank's later work after the units at which it has arrived. Throws what went wrong
  // with them: FabricError if the ranks' calls differed, FabricTimeoutError, naming the ranks, if
  // some did not arrive before the deadline.
  void wait(int rank);

  // Between two ranks only, each calling for itself; returns when the rank's later work is ordered
  // after it. The others need not know.
  void send(int rank, const Tensor& tensor, int to);
  void receive(int rank, const Tensor& tensor, int from);

  // The communicator of some of the ranks, numbered anew in the order given; made at its first use,
  // with the same options, and kept.
  std::shared_ptr<Communicator> subgroup(std::span<const int> ranks);

  // From any thread, while others wait, here and in the subgroups: every wait ends with a
  // FabricError, kernels that wait for a peer leave, and every call throws until reset().
  void abort();

  // Blocks the host until all started units are done; throws if one of them failed.
  void synchronize();
  // After a time-out every call throws again until this has dropped what was pending, here and in
  // the subgroups. No rank may be inside a call. FabricTimeoutError where the devices do not come
  // to rest; it can be called again then.
  void reset();

 private:
  friend class Work;

  struct Pending : Unit {
    std::shared_ptr<Work::State> work;  // of a group call that was started
  };

  void check_usable();
  void set_aborted();
  void check_rank(const char* what, int rank) const;

  void check_in_step(Kind kind);
  void fill(Unit& unit, const Request& request, std::span<const Tensor> inputs,
            std::span<const Tensor> outputs, std::span<const int> to) const;

  Pending& unit_at(uint64_t sequence);
  void place(Unit& unit, int rank, Call call);
  void run_ready(std::unique_lock<std::mutex>& lock);
  void execute(const Unit& unit);
  void mark_all(Unit& unit);
  void drop_marks(Unit& unit);
  void keep(Unit& unit);
  bool is_done(int rank) const;
  void await(std::unique_lock<std::mutex>& lock, int rank);
  void hear_interrupt(std::unique_lock<std::mutex>& lock);
  void await_queue(std::unique_lock<std::mutex>& lock);
  const Unit* incomplete(int rank) const;
  Communicator& pair(int rank, int other);

  fabric::Mesh mesh_;
  Options options_;
  std::shared_ptr<Engine> engine_;

  std::mutex mutex_;
  std::condition_variable progress_;
  std::deque<Pending> pending_;               // pending_[0] is unit number first_
  uint64_t first_ = 0;                        // all units before it have been run or have failed
  std::vector<uint64_t> next_;                // by rank: number of its next unit
  std::vector<std::exception_ptr> failures_;  // by rank: what its next wait() throws
  std::vector<std::vector<Tensor>> kept_;     // by rank: what was queued since its last wait
  bool running_ = false;                      // a thread is running units
  bool group_running_ = false;                // and it is that of a group call
  std::exception_ptr broken_;                 // timed out: thrown by every call until reset()
  std::atomic<bool> aborted_{false};          // abort() was called
  Unit group_;                                // of the group call that runs: made once for all

  std::mutex subgroups_mutex_;
  std::map<std::vector<int>, std::shared_ptr<Communicator>> subgroups_;
  std::unique_ptr<Worker> background_;  // runs what start() has started, if the engine does not
                                        // queue; the last one: its jobs use the others
};

}  // namespace vt::collectives
