// Matching, ordering, deadlines and failures of collective calls.
#include "collectives/communicator.h"

#include <algorithm>
#include <bit>
#include <chrono>

#include "base/env.h"
#include "base/error.h"

namespace vt::collectives {
namespace {

uint32_t all_ranks(const fabric::Mesh& mesh) { return (1u << mesh.size()) - 1; }

std::exception_ptr error(ErrorKind kind, const std::string& message) {
  return std::make_exception_ptr(Error(kind, message));
}

// "ranks 1 (cpu:1), 3 (cpu:3)" for the ranks of a mask.
std::string list(const fabric::Mesh& mesh, uint32_t mask) {
  std::string text;
  for (int r = 0; r < mesh.size(); ++r)
    if (mask >> r & 1) text += str(text.empty() ? "" : ", ", r, " (", mesh.device(r), ")");
  return str(std::has_single_bit(mask) ? "rank " : "ranks ", text);
}

}  // namespace

Communicator::Communicator(const fabric::Mesh& mesh)
    : Communicator(mesh, Options{.timeout_seconds = env::fabric_timeout_seconds()}) {}

Communicator::Communicator(const fabric::Mesh& mesh, const Options& options)
    : mesh_(mesh), options_(options), next_(mesh.size(), 0), failures_(mesh.size()) {
  VT_CHECK(options.timeout_seconds > 0, kValue, "communicator: the timeout must be positive, got ",
           options.timeout_seconds, " s");
  VT_CHECK(options.threads % 32 == 0 && options.threads >= 0 && options.threads <= 1024, kValue,
           "communicator: threads must be a multiple of 32 up to 1024, or 0, got ",
           options.threads);
  if (options.algorithm == Algorithm::kNccl) {
    VT_CHECK(mesh.is_cuda(), kValue, "communicator: NCCL runs on GPUs only, the mesh is ", mesh,
             "; leave the algorithm at auto");
    engine_ = make_nccl_engine(mesh);
  } else {
    engine_ = mesh.is_cuda() ? make_cuda_engine(mesh, options) : make_cpu_engine(mesh);
  }
}

Communicator::~Communicator() {
  for (Unit& unit : pending_)
    for (int r = 0; r < mesh_.size(); ++r)
      if (unit.marks[r]) engine_->drop_mark(r, unit.marks[r]);
}

void Communicator::check_usable() {
  if (!broken_) {
    try {
      engine_->check();
      return;
    } catch (const Error&) { broken_ = std::current_exception(); }
    progress_.notify_all();
  }
  std::rethrow_exception(broken_);
}

Unit& Communicator::unit_at(uint64_t sequence) {
  while (sequence - first_ >= pending_.size()) {
    Unit& unit = pending_.emplace_back();
    unit.sequence = first_ + pending_.size() - 1;
    unit.calls.resize(mesh_.size());
    unit.marks.resize(mesh_.size(), nullptr);
  }
  return pending_[sequence - first_];
}

// Adds the rank's call to the unit; a call that does not belong there fails the unit for all its
// ranks.
void Communicator::place(Unit& unit, int rank, Call call) {
  if (!unit.failure && unit.arrived) {
    const int other = std::countr_zero(unit.arrived);
    const std::string message = mismatch(other, unit.calls[other], rank, call);
    if (!message.empty()) unit.failure = error(ErrorKind::kFabric, message);
  }
  unit.marks[rank] = engine_->mark_arrival(rank);
  unit.calls[rank] = std::move(call);
  unit.arrived |= 1u << rank;
  if (!unit.failure && unit.arrived == all_ranks(mesh_)) {
    try {
      check_overlap(unit);
    } catch (const Error&) { unit.failure = std::current_exception(); }
  }
  if (!unit.failure) return;
  for (int r = 0; r < mesh_.size(); ++r)
    if (unit.arrived >> r & 1 && !failures_[r]) failures_[r] = unit.failure;
  progress_.notify_all();
}

// Runs what is complete, in order. One thread at a time is in here; the others leave their units to
// it.
void Communicator::run_ready(std::unique_lock<std::mutex>& lock) {
  if (running_) return;
  running_ = true;
  while (!pending_.empty() && pending_.front().arrived == all_ranks(mesh_)) {
    Unit unit = std::move(pending_.front());
    std::exception_ptr failure = unit.failure;
    lock.unlock();
    if (!failure) {
      try {
        engine_->run(unit);
        for (const Call& call : unit.calls)
          if (call.output.defined()) call.output.bump_version();
      } catch (...) { failure = std::current_exception(); }
    }
    for (int r = 0; r < mesh_.size(); ++r)
      if (unit.marks[r]) engine_->drop_mark(r, unit.marks[r]);
    lock.lock();
    if (failure && !unit.failure)
      for (auto& slot : failures_)
        if (!slot) slot = failure;
    pending_.pop_front();
    ++first_;
    progress_.notify_all();
  }
  running_ = false;
  progress_.notify_all();
}

void Communicator::arrive(int rank, Call call) {
  VT_CHECK(rank >= 0 && rank < mesh_.size(), kValue, "arrive: rank ", rank,
           " is out of range, the mesh has ", mesh_.size(), " ranks");
  check_call(mesh_, rank, call);
  std::unique_lock lock(mutex_);
  check_usable();
  Unit& unit = unit_at(next_[rank]);
  place(unit, rank, std::move(call));
  ++next_[rank];
  run_ready(lock);
}

// Has every unit at which the rank has arrived been run, or failed?
bool Communicator::is_done(int rank) const {
  for (uint64_t s = first_; s < next_[rank]; ++s)
    if (!pending_[s - first_].failure) return false;
  return true;
}

// The first unit the rank has arrived at and others have not, or null.
const Unit* Communicator::incomplete(int rank) const {
  for (uint64_t s = first_; s < next_[rank]; ++s) {
    const Unit& unit = pending_[s - first_];
    // A unit that is running has given its calls away, and counts as arrived.
    if (!unit.failure && unit.arrived != all_ranks(mesh_)) return &unit;
  }
  return nullptr;
}

void Communicator::await(std::unique_lock<std::mutex>& lock, int rank) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(options_.timeout_seconds));
  while (!broken_ && !failures_[rank] && !is_done(rank)) {
    if (progress_.wait_until(lock, deadline) == std::cv_status::no_timeout) continue;
    const Unit* const unit = incomplete(rank);
    if (!unit || broken_) {
      progress_.wait(lock);  // everybody came; a unit that runs has deadlines of its own
      continue;
    }
    broken_ = error(
        ErrorKind::kFabricTimeout,
        str(describe(unit->calls[rank]), ": ", list(mesh_, all_ranks(mesh_) & ~unit->arrived),
            " did not arrive within ", options_.timeout_seconds, " s (call ", unit->sequence, "), ",
            list(mesh_, unit->arrived), " did; reset() makes the communicator usable again"));
    progress_.notify_all();
  }
  if (auto failure = std::exchange(failures_[rank], nullptr)) std::rethrow_exception(failure);
  if (broken_) std::rethrow_exception(broken_);
}

void Communicator::wait(int rank) {
  VT_CHECK(rank >= 0 && rank < mesh_.size(), kValue, "wait: rank ", rank,
           " is out of range, the mesh has ", mesh_.size(), " ranks");
  std::unique_lock lock(mutex_);
  await(lock, rank);
  engine_->join(rank);
}

void Communicator::group(std::vector<Call> calls) {
  const auto op = name(calls[0].kind);
  for (int r = 0; r < mesh_.size(); ++r) {
    check_call(mesh_, r, calls[r]);
    const std::string message = mismatch(0, calls[0], r, calls[r]);
    VT_CHECK(message.empty(), kFabric, message);
  }
  std::unique_lock lock(mutex_);
  check_usable();
  for (int r = 1; r < mesh_.size(); ++r)
    VT_CHECK(next_[r] == next_[0], kFabric, op, ": ranks ", next_[r] < next_[0] ? 0 : r, " and ",
             next_[r] < next_[0] ? r : 0, " have made ", std::max(next_[r], next_[0]), " and ",
             std::min(next_[r], next_[0]),
             " calls by themselves; let all ranks arrive and wait before a group call");
  Unit& unit = unit_at(next_[0]);
  for (int r = 0; r < mesh_.size(); ++r) {
    place(unit, r, std::move(calls[r]));
    ++next_[r];
  }
  run_ready(lock);
  await(lock, 0);
  std::fill(failures_.begin(), failures_.end(), nullptr);
  for (int r = 0; r < mesh_.size(); ++r) engine_->join(r);
}

void Communicator::all_reduce(std::span<const Tensor> inputs, std::span<const Tensor> outputs,
                              ReduceOp op) {
  const size_t n = mesh_.size();
  VT_CHECK(inputs.size() == n && outputs.size() == n, kValue, "all_reduce: the mesh ", mesh_,
           " has ", n, " ranks, got ", inputs.size(), " inputs and ", outputs.size(),
           " outputs; pass one tensor a rank");
  std::vector<Call> calls;
  for (size_t r = 0; r < n; ++r) calls.push_back({Kind::kAllReduce, op, 0, inputs[r], outputs[r]});
  group(std::move(calls));
}

void Communicator::broadcast(std::span<const Tensor> tensors, int root) {
  VT_CHECK(tensors.size() == static_cast<size_t>(mesh_.size()), kValue, "broadcast: the mesh ",
           mesh_, " has ", mesh_.size(), " ranks, got ", tensors.size(),
           " tensors; pass one tensor a rank");
  std::vector<Call> calls;
  for (const Tensor& t : tensors) calls.push_back({Kind::kBroadcast, ReduceOp::kSum, root, t, t});
  group(std::move(calls));
}

void Communicator::barrier() { group(std::vector<Call>(mesh_.size())); }

void Communicator::synchronize() {
  std::unique_lock lock(mutex_);
  progress_.wait(lock, [this] { return !running_; });
  if (!broken_) {
    try {
      engine_->synchronize();
      return;
    } catch (const Error&) { broken_ = std::current_exception(); }
    progress_.notify_all();
  }
  std::rethrow_exception(broken_);
}

void Communicator::reset() {
  std::unique_lock lock(mutex_);
  progress_.wait(lock, [this] { return !running_; });
  for (Unit& unit : pending_)
    for (int r = 0; r < mesh_.size(); ++r)
      if (unit.marks[r]) engine_->drop_mark(r, unit.marks[r]);
  pending_.clear();
  first_ = *std::max_element(next_.begin(), next_.end());
  std::fill(next_.begin(), next_.end(), first_);
  std::fill(failures_.begin(), failures_.end(), nullptr);
  broken_ = nullptr;
  engine_->reset();
}

}  // namespace vt::collectives
