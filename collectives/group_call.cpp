// Group calls: one thread calls for all ranks. A call that is waited for at once runs on the
// calling thread and allocates nothing; one that is only started becomes a pending unit.
#include <algorithm>

#include "base/error.h"
#include "collectives/communicator.h"

namespace vt::collectives {
namespace {

uint32_t all_ranks(const fabric::Mesh& mesh) { return (1u << mesh.size()) - 1; }

}  // namespace

void Communicator::fill(Unit& unit, const Request& request, std::span<const Tensor> inputs,
                        std::span<const Tensor> outputs, std::span<const int> to) const {
  const size_t n = mesh_.size();
  const auto op = name(request.kind);
  if (request.kind != Kind::kBarrier)
    VT_CHECK(inputs.size() == n && outputs.size() == n, kValue, op, ": the mesh ", mesh_, " has ",
             n, " ranks, got ", inputs.size(), " inputs and ", outputs.size(),
             " outputs; pass one tensor a rank");
  for (size_t r = 0; r < n; ++r) {
    Call& call = unit.calls[r];
    call.kind = request.kind;
    call.op = request.op;
    call.root = request.root;
    call.to = call.from = kNoRank;
    if (request.kind == Kind::kBarrier) continue;
    call.input = inputs[r];
    call.output = outputs[r];
  }
  if (request.kind == Kind::kSendRecv) {
    VT_CHECK(to.size() == n, kValue, op, ": the mesh ", mesh_, " has ", n,
             " ranks, got destinations for ", to.size());
    for (size_t r = 0; r < n; ++r) {
      if (to[r] == kNoRank) continue;
      check_rank("sendrecv", to[r]);
      Call& other = unit.calls[to[r]];
      VT_CHECK(other.from == kNoRank, kValue, op, ": ranks ", other.from, " and ", r,
               " both send to rank ", to[r], "; use two calls");
      other.from = static_cast<int>(r);
      unit.calls[r].to = to[r];
    }
  }
  for (size_t r = 0; r < n; ++r) check_call(mesh_, static_cast<int>(r), unit.calls[r]);
  check_match(unit);
  unit.arrived = all_ranks(mesh_);
  measure(unit);
  check_overlap(unit);
}

// A group call is the next call of all ranks: none may be ahead.
void Communicator::check_in_step(Kind kind) {
  check_usable();
  for (int r = 1; r < mesh_.size(); ++r)
    VT_CHECK(next_[r] == next_[0], kFabric, name(kind), ": ranks ", next_[r] < next_[0] ? 0 : r,
             " and ", next_[r] < next_[0] ? r : 0, " have made ", std::max(next_[r], next_[0]),
             " and ", std::min(next_[r], next_[0]),
             " calls by themselves; let all ranks arrive and wait before a group call");
}

// One thread calls for all: what it has queued on a device is the same for all ranks there.
void Communicator::mark_all(Unit& unit) {
  for (int r = 0; r < mesh_.size(); ++r) {
    const int first = mesh_.first_ranks()[mesh_.device_number(r)];
    unit.marks[r] = first < r ? unit.marks[first] : engine_->mark_arrival(r);
  }
}

void Communicator::run(const Request& request, std::span<const Tensor> inputs,
                       std::span<const Tensor> outputs, std::span<const int> to) {
  std::unique_lock lock(mutex_);
  for (;;) {
    check_in_step(request.kind);
    if (!running_ && pending_.empty()) break;
    progress_.wait(lock);
  }
  // From here on this thread owns group_; others that come wait for it.
  running_ = group_running_ = true;
  for (uint64_t& next : next_) ++next;
  group_.sequence = first_++;
  lock.unlock();
  std::exception_ptr failure;
  try {
    fill(group_, request, inputs, outputs, to);
    execute(group_);
  } catch (...) { failure = std::current_exception(); }
  for (Call& call : group_.calls) call.input = call.output = Tensor();
  lock.lock();
  running_ = group_running_ = false;
  // Others may have arrived in the meantime and left their unit to this thread.
  if (!pending_.empty()) run_ready(lock);
  lock.unlock();
  progress_.notify_all();
  if (failure) std::rethrow_exception(failure);
}

Work Communicator::start(const Request& request, std::span<const Tensor> inputs,
                         std::span<const Tensor> outputs, std::span<const int> to) {
  Pending unit;
  unit.calls.resize(mesh_.size());
  unit.marks.resize(mesh_.size(), nullptr);
  fill(unit, request, inputs, outputs, to);
  unit.work = std::make_shared<Work::State>();
  for (const Call& call : unit.calls)
    for (const Tensor* t : {&call.input, &call.output})
      if (t->defined()) unit.work->kept.push_back(*t);
  std::unique_lock lock(mutex_);
  check_in_step(request.kind);
  mark_all(unit);
  for (uint64_t& next : next_) unit.sequence = next++;
  Work work(*this, unit.work);  // not before: it is waited for when it goes
  pending_.push_back(std::move(unit));
  if (engine_->queues()) {
    run_ready(lock);
    return work;
  }
  if (!background_) background_ = std::make_unique<Worker>(mesh_.device(0));
  background_->submit([this] {
    std::unique_lock running(mutex_);
    run_ready(running);
  });
  return work;
}

}  // namespace vt::collectives
