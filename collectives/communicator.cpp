// Matching, ordering, deadlines and failures of collective calls.
#include "collectives/communicator.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <thread>

#include "base/env.h"
#include "base/error.h"
#include "fabric/access.h"
#include "fabric/events.h"

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

constexpr auto kInterruptCheck = std::chrono::milliseconds(100);
constexpr auto kSpin = std::chrono::milliseconds(50);
constexpr auto kHold = std::chrono::microseconds(200);  // of it, without giving the core away
constexpr auto kPoll = std::chrono::microseconds(100);
std::atomic<void (*)()> g_interrupt_check{nullptr};

}  // namespace

void set_interrupt_check(void (*check)()) { g_interrupt_check = check; }

Communicator::Communicator(const fabric::Mesh& mesh)
    : Communicator(mesh, Options{.timeout_seconds = env::fabric_timeout_seconds()}) {}

Communicator::Communicator(const fabric::Mesh& mesh, const Options& options)
    : mesh_(mesh),
      options_(options),
      next_(mesh.size(), 0),
      failures_(mesh.size()),
      kept_(mesh.size()) {
  group_.calls.resize(mesh.size());
  group_.in_line = true;
  constexpr double kLongest = 1e8;  // seconds; what clocks can count
  VT_CHECK(options.timeout_seconds > 0 && options.timeout_seconds <= kLongest, kValue,
           "communicator: the timeout must be positive and at most ", kLongest, " s, got ",
           options.timeout_seconds, " s");
  VT_CHECK(options.max_blocks >= 0, kValue,
           "communicator: max_blocks must be 0 (as many as pay) or more, got ", options.max_blocks);
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
  background_.reset();
  for (Pending& unit : pending_) drop_marks(unit);
}

void Communicator::set_aborted() {
  if (!broken_)
    broken_ = error(ErrorKind::kFabric,
                    "collective: aborted, its results are lost; reset() makes the communicator "
                    "usable again");
  progress_.notify_all();
}

void Communicator::abort() {
  aborted_ = true;
  engine_->abort();  // first: a thread that holds the lock may wait for a kernel
  {
    std::lock_guard lock(mutex_);
    set_aborted();
  }
  std::lock_guard lock(subgroups_mutex_);
  for (auto& [ranks, group] : subgroups_) group->abort();
}

void Communicator::check_usable() {
  if (aborted_) set_aborted();
  if (!broken_) {
    try {
      engine_->check();
      return;
    } catch (const Error&) { broken_ = std::current_exception(); }
    progress_.notify_all();
  }
  std::rethrow_exception(broken_);
}

Communicator::Pending& Communicator::unit_at(uint64_t sequence) {
  while (sequence - first_ >= pending_.size()) {
    Pending& unit = pending_.emplace_back();
    unit.sequence = first_ + pending_.size() - 1;
    unit.calls.resize(mesh_.size());
    unit.marks.resize(mesh_.size(), nullptr);
  }
  return pending_[sequence - first_];
}

// Adds the rank's call to the unit; a call that does not belong there fails the unit for all its
// ranks.
void Communicator::place(Unit& unit, int rank, Call call) {
  for (int other = 0; other < mesh_.size() && !unit.failure; ++other) {
    if (!(unit.arrived >> other & 1)) continue;
    const std::string message = mismatch(mesh_.size(), other, unit.calls[other], rank, call);
    if (!message.empty()) unit.failure = error(ErrorKind::kFabric, message);
  }
  unit.marks[rank] = engine_->mark_arrival(rank);
  unit.calls[rank] = std::move(call);
  unit.arrived |= 1u << rank;
  if (!unit.failure && unit.arrived == all_ranks(mesh_)) {
    try {
      measure(unit);
      check_overlap(unit);
    } catch (const Error&) { unit.failure = std::current_exception(); }
  }
  if (!unit.failure) return;
  for (int r = 0; r < mesh_.size(); ++r)
    if (unit.arrived >> r & 1 && !failures_[r]) failures_[r] = unit.failure;
  progress_.notify_all();
}

void Communicator::drop_marks(Unit& unit) {
  for (int r = 0; r < unit.ranks(); ++r) {
    void* const mark = unit.marks[r];
    if (!mark) continue;
    std::replace(unit.marks.begin() + r, unit.marks.end(), mark, static_cast<void*>(nullptr));
    engine_->drop_mark(r, mark);
  }
}

void Communicator::execute(const Unit& unit) {
  if (VT_UNLIKELY(fabric::mode() == fabric::Mode::kDryRun))
    fail(ErrorKind::kFabric, describe(unit.call()), ": dry run: ", unit.bytes(),
         " bytes of each rank of ", mesh_, " would go by '", engine_->algorithm(unit),
         "'; nothing was moved, call fabric.enable() or fabric.disable() to do it");
  const int64_t start = fabric::event_clock();
  engine_->run(unit);
  fabric::note(fabric::EventKind::kCollective, name(unit.call().kind).data(), mesh_.device(0),
               unit.bytes(), engine_->last_algorithm(), start);
  for (int r = 0; r < unit.ranks(); ++r)
    if (const Call& call = unit.calls[r]; call.has_output(r)) call.output.bump_version();
}

// Runs what is complete, in order. One thread at a time is in here; the others leave their units to
// it.
void Communicator::run_ready(std::unique_lock<std::mutex>& lock) {
  if (running_) return;
  running_ = true;
  while (!pending_.empty() && pending_.front().arrived == all_ranks(mesh_)) {
    Pending unit = std::move(pending_.front());
    std::exception_ptr failure = unit.failure;
    std::unique_ptr<Completion> completion;
    lock.unlock();
    if (!failure) {
      try {
        execute(unit);
        if (unit.work) completion = engine_->completion();
      } catch (...) { failure = std::current_exception(); }
    }
    drop_marks(unit);
    lock.lock();
    if (unit.work) {
      unit.work->failure = failure;
      unit.work->completion = std::move(completion);
      unit.work->run = true;
    } else {
      if (failure && !unit.failure)
        for (auto& slot : failures_)
          if (!slot) slot = failure;
      if (engine_->queues()) keep(unit);
    }
    pending_.pop_front();
    ++first_;
    progress_.notify_all();
    // Whoever owns the tensors' memory may have a lock of its own: not under ours.
    lock.unlock();
    unit.calls.clear();
    lock.lock();
  }
  running_ = false;
  progress_.notify_all();
}

// The devices still work on the tensors of a unit that is queued.
void Communicator::keep(Unit& unit) {
  for (int r = 0; r < mesh_.size(); ++r)
    for (Tensor* t : {&unit.calls[r].input, &unit.calls[r].output})
      if (t->defined()) kept_[r].push_back(std::move(*t));
}

void Communicator::arrive(int rank, Call call) {
  check_rank("arrive", rank);
  check_call(mesh_, rank, call);
  std::unique_lock lock(mutex_);
  check_usable();
  Pending& unit = unit_at(next_[rank]);
  place(unit, rank, std::move(call));
  ++next_[rank];
  run_ready(lock);
}

// Has every unit at which the rank has arrived been run, or failed?
bool Communicator::is_done(int rank) const {
  if (group_running_) return false;
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

void Communicator::hear_interrupt(std::unique_lock<std::mutex>& lock) {
  const auto check = g_interrupt_check.load();
  if (!check) return;
  lock.unlock();
  try {
    check();
  } catch (...) {
    abort();
    throw;
  }
  lock.lock();
}

void Communicator::await(std::unique_lock<std::mutex>& lock, int rank) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(options_.timeout_seconds));
  while (!broken_ && !failures_[rank] && !is_done(rank)) {
    const auto look = std::min(deadline, Clock::now() + kInterruptCheck);
    if (progress_.wait_until(lock, look) == std::cv_status::no_timeout) continue;
    if (Clock::now() < deadline) {
      hear_interrupt(lock);
      continue;
    }
    const Unit* const unit = incomplete(rank);
    if (!unit || broken_) {
      // Everybody came; a unit that runs has deadlines of its own.
      if (progress_.wait_for(lock, kInterruptCheck) == std::cv_status::timeout)
        hear_interrupt(lock);
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
  check_rank("wait", rank);
  std::vector<Tensor> finished;  // goes after the lock
  std::unique_lock lock(mutex_);
  await(lock, rank);
  engine_->join(rank);
  finished.swap(kept_[rank]);
}

void Communicator::check_rank(const char* what, int rank) const {
  VT_CHECK(rank >= 0 && rank < mesh_.size(), kValue, what, ": rank ", rank,
           " is out of range, the mesh has ", mesh_.size(), " ranks");
}

// Until what was started is done, or the communicator is broken. Asks instead of blocking, with the
// lock given up in between, so that an interrupt is heard and abort() gets in.
void Communicator::await_queue(std::unique_lock<std::mutex>& lock) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  auto heard = start;
  while (!broken_) {
    const bool started =
        running_ || (!pending_.empty() && pending_.front().arrived == all_ranks(mesh_));
    try {
      if (!started && engine_->drained()) return;
    } catch (const Error&) { return; }  // synchronize() finds it, too
    const auto now = Clock::now();
    if (!started && now - start < kSpin) {  // a wake-up would take longer than short units do
      lock.unlock();
      if (now - start > kHold) std::this_thread::yield();  // who takes it may keep it for 4 ms
      lock.lock();
    } else {
      progress_.wait_for(lock, kPoll);
    }
    if (now - heard < kInterruptCheck) continue;
    heard = now;
    hear_interrupt(lock);
  }
}

void Communicator::synchronize() {
  std::unique_lock lock(mutex_);
  await_queue(lock);
  if (!broken_) {
    try {
      engine_->synchronize();
      if (!aborted_) return;
      set_aborted();
      std::rethrow_exception(broken_);
    } catch (const Error&) { broken_ = std::current_exception(); }
    progress_.notify_all();
  }
  std::rethrow_exception(broken_);
}

void Communicator::reset() {
  {
    std::deque<Pending> dropped;  // these go after the lock
    std::vector<std::vector<Tensor>> finished(mesh_.size());
    std::unique_lock lock(mutex_);
    progress_.wait(lock, [this] { return !running_; });
    try {
      engine_->reset();
    } catch (const Error&) {  // the devices do not come to rest
      broken_ = std::current_exception();
      throw;
    }
    for (Pending& unit : pending_) {
      if (unit.work) {
        unit.work->failure =
            broken_ ? broken_
                    : error(ErrorKind::kFabric,
                            str(describe(unit.call()), ": dropped by reset() before it was run"));
        unit.work->run = true;
      }
      drop_marks(unit);
    }
    dropped.swap(pending_);
    first_ = *std::max_element(next_.begin(), next_.end());
    std::fill(next_.begin(), next_.end(), first_);
    std::fill(failures_.begin(), failures_.end(), nullptr);
    broken_ = nullptr;
    aborted_ = false;
    finished.swap(kept_);
    progress_.notify_all();
  }
  std::lock_guard lock(subgroups_mutex_);
  for (auto& [ranks, group] : subgroups_) group->reset();
}

}  // namespace vt::collectives
