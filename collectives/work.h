// The handle of a group call that was started and not yet waited for.
#pragma once
#include <exception>
#include <memory>
#include <vector>

#include "collectives/engine.h"

namespace vt::collectives {

class Communicator;

// Holds the tensors of the call until it has been waited for. The communicator must outlive it.
class Work {
 public:
  Work(Work&&) = default;
  Work& operator=(Work&&) = delete;
  ~Work();  // what was not waited for is waited for now, and its error dropped

  // Is the call done, on all ranks? A failed one counts as done.
  bool is_completed();
  // Orders the calling thread's later work on all devices after the call; with CPU devices blocks
  // until it is done. Throws what went wrong.
  void wait();
  // wait(), and blocks the host until the devices are done too.
  void synchronize();

 private:
  friend class Communicator;
  struct State {  // guarded by the communicator's mutex
    bool run = false;
    std::exception_ptr failure;
    std::unique_ptr<Completion> completion;
    std::vector<Tensor> kept;
  };
  Work(Communicator& owner, std::shared_ptr<State> state)
      : owner_(&owner), state_(std::move(state)) {}

  Communicator* owner_;
  std::shared_ptr<State> state_;  // null once moved from
};

}  // namespace vt::collectives
