// The communicator: matches the calls of the ranks of a mesh into units, checks that they agree,
// and has an engine run each unit once its last rank has arrived. Never blocks a rank that only
// arrives; never waits without a deadline.
#pragma once
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <span>

#include "collectives/engine.h"

namespace vt::collectives {

class Communicator {
 public:
  explicit Communicator(const fabric::Mesh& mesh);  // deadline: VIBETENSOR_FABRIC_TIMEOUT
  Communicator(const fabric::Mesh& mesh, const Options& options);
  ~Communicator();

  const fabric::Mesh& mesh() const { return mesh_; }
  const Options& options() const { return options_; }

  // Group calls: one thread calls for all ranks; tensors in the order of the mesh. Ordered after
  // what is queued on the calling thread's current streams and before what is queued there later.
  void all_reduce(std::span<const Tensor> inputs, std::span<const Tensor> outputs, ReduceOp op);
  void all_reduce(std::span<const Tensor> tensors, ReduceOp op) {
    all_reduce(tensors, tensors, op);
  }
  void broadcast(std::span<const Tensor> tensors, int root);
  void barrier();

  // Rank calls: each rank calls for itself, from any thread, in the same order as the others.
  // arrive() returns at once; the last rank to arrive starts the unit. The tensors may not be
  // touched before the rank's wait().
  void arrive(int rank, Call call);
  // Orders the rank's later work after the units at which it has arrived. Throws what went wrong
  // with them: FabricError if the ranks' calls differed, FabricTimeoutError, naming the ranks, if
  // some did not arrive before the deadline.
  void wait(int rank);

  // Blocks the host until all started units are done; throws if one of them failed.
  void synchronize();
  // After a time-out every call throws again until this has dropped what was pending. No rank may
  // be inside a call.
  void reset();

 private:
  void group(std::vector<Call> calls);
  void check_usable();
  Unit& unit_at(uint64_t sequence);
  void place(Unit& unit, int rank, Call call);
  void run_ready(std::unique_lock<std::mutex>& lock);
  bool is_done(int rank) const;
  void await(std::unique_lock<std::mutex>& lock, int rank);
  const Unit* incomplete(int rank) const;

  fabric::Mesh mesh_;
  Options options_;
  std::unique_ptr<Engine> engine_;

  std::mutex mutex_;
  std::condition_variable progress_;
  std::deque<Unit> pending_;                  // pending_[0] is unit number first_
  uint64_t first_ = 0;                        // all units before it have been run or have failed
  std::vector<uint64_t> next_;                // by rank: number of its next unit
  std::vector<std::exception_ptr> failures_;  // by rank: what its next wait() throws
  bool running_ = false;                      // a thread is inside run_ready()
  std::exception_ptr broken_;                 // timed out: thrown by every call until reset()
};

}  // namespace vt::collectives
