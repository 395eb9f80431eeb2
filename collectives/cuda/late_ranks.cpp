// Looking at the marks of ranks that share a GPU.
#include "collectives/cuda/late_ranks.h"

#include <algorithm>

#include "base/error.h"
#include "collectives/cuda/fault_board.h"
#include "device/capture.h"

namespace vt::collectives::gpu {
namespace {

constexpr auto kPause = std::chrono::microseconds(200);  // asking costs about one

}  // namespace

LateRanks::LateRanks(const fabric::Mesh& mesh, double timeout_seconds)
    : mesh_(mesh),
      timeout_(std::chrono::duration_cast<Clock::duration>(
          std::chrono::duration<double>(timeout_seconds))) {}

LateRanks::~LateRanks() {
  for (const Watched& unit : units_)
    for (const Arrival& arrival : unit.arrivals)
      if (arrival.taken) cuda::destroy_event(arrival.mark);
}

void LateRanks::watch(const Unit& unit) {
  if (unit.in_line) return;
  const auto& first = mesh_.first_ranks();
  bool alone = false;  // has a rank a mark of its own, beside that of another rank of its device?
  for (int r = 0; r < unit.ranks() && !alone; ++r)
    alone = unit.marks[r] != unit.marks[first[mesh_.device_number(r)]];
  if (!alone) return;
  Watched watched;
  watched.sequence = unit.sequence;
  watched.kind = unit.call().kind;
  for (int r = 0; r < unit.ranks(); ++r) {
    auto* const mark = static_cast<cuda::Event*>(unit.marks[r]);
    if (mark->captured) return;
    const auto known = std::find_if(watched.arrivals.begin(), watched.arrivals.end(),
                                    [mark](const Arrival& other) { return other.mark == mark; });
    if (known != watched.arrivals.end()) known->ranks |= 1u << r;
    else watched.arrivals.push_back({mark, 1u << r});
  }
  std::lock_guard lock(mutex_);
  units_.push_back(std::move(watched));
  any_ = true;
}

bool LateRanks::is_taken(const Watched& unit) const {
  return std::all_of(unit.arrivals.begin(), unit.arrivals.end(),
                     [](const Arrival& arrival) { return arrival.taken; });
}

bool LateRanks::take(void* mark) {
  if (!any_) return false;
  std::lock_guard lock(mutex_);
  if (units_.empty()) return false;
  for (Arrival& arrival : units_.back().arrivals)
    if (arrival.mark == mark && !arrival.taken) return arrival.taken = true;
  return false;
}

void LateRanks::drop_first() {
  for (const Arrival& arrival : units_.front().arrivals) cuda::destroy_event(arrival.mark);
  units_.pop_front();
  late_ = 0;
  any_ = !units_.empty();
}

void LateRanks::look(bool at_once) {
  if (any_capture()) return;  // the driver may refuse to be asked
  const auto now = Clock::now();
  if (!at_once && now - looked_ < std::min<Clock::duration>(kPause, timeout_ / 10)) return;
  looked_ = now;
  while (!overdue_ && !units_.empty() && is_taken(units_.front())) {
    Watched& unit = units_.front();
    late_ = 0;
    bool any_passed = false;
    for (Arrival& arrival : unit.arrivals) {
      arrival.passed = arrival.passed || cuda::query_event(*arrival.mark);
      any_passed |= arrival.passed;
      if (!arrival.passed) late_ |= arrival.ranks;
    }
    if (late_) {
      if (any_passed && !unit.waiting) {
        unit.waiting = true;
        unit.since = now;
      }
      if (unit.waiting && now - unit.since > timeout_) overdue_ = late_;
      return;
    }
    drop_first();
  }
}

uint32_t LateRanks::overdue() {
  if (VT_LIKELY(!any_)) return 0;
  std::lock_guard lock(mutex_);
  look(false);
  return overdue_;
}

uint32_t LateRanks::late() {
  if (VT_LIKELY(!any_)) return 0;
  std::lock_guard lock(mutex_);
  look(true);
  return overdue_ ? overdue_ : late_;
}

std::string LateRanks::sentence() {
  if (VT_LIKELY(!any_)) return "";
  std::lock_guard lock(mutex_);
  look(false);
  if (!overdue_) return "";
  const Watched& unit = units_.front();
  uint32_t waiting = 0;
  for (const Arrival& arrival : unit.arrivals)
    if (arrival.passed) waiting |= arrival.ranks;
  const auto waited =
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - unit.since);
  return str("collective ", unit.sequence, " (", name(unit.kind), "): rank ",
             list_of(mesh_, waiting & ~(waiting - 1)), " waited ", waited.count(), " ms for rank ",
             list_of(mesh_, overdue_), " to begin");
}

void LateRanks::clear() {
  std::lock_guard lock(mutex_);
  overdue_ = 0;
  while (!units_.empty() && is_taken(units_.front())) drop_first();
}

}  // namespace vt::collectives::gpu
