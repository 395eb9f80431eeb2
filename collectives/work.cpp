// Waiting for calls that were started.
#include "collectives/work.h"

#include "base/error.h"
#include "collectives/communicator.h"

namespace vt::collectives {

Work::~Work() {
  if (!state_ || state_->kept.empty()) return;
  try {
    wait();
  } catch (const std::exception&) {  // nobody is left to hear of it; later calls throw it again
  }
}

bool Work::is_completed() {
  std::lock_guard lock(owner_->mutex_);
  return state_->run && (!state_->completion || state_->completion->passed());
}

void Work::wait() {
  std::vector<Tensor> finished;  // goes after the lock
  std::unique_lock lock(owner_->mutex_);
  owner_->progress_.wait(lock, [this] { return state_->run || owner_->broken_; });
  finished.swap(state_->kept);
  if (state_->failure) std::rethrow_exception(state_->failure);
  if (!state_->run) std::rethrow_exception(owner_->broken_);
  if (!state_->completion) return;
  for (int r : owner_->mesh().first_ranks()) state_->completion->join(r);
}

void Work::synchronize() {
  wait();
  owner_->synchronize();
}

}  // namespace vt::collectives
