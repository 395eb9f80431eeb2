// The timing of a product's candidates.
#include "kernels/cuda/vendor/product_tuning.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "device/cuda/capture_mode.h"
#include "device/cuda/device.h"
#include "device/cuda/event.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/vendor/product_operands.h"
#include "kernels/cuda/vendor/product_probe.h"

namespace vt::cuda::cublaslt {
namespace {

constexpr int kAsked = 24;          // algorithms asked for, with the usual workspace and more
constexpr int kScreenRuns = 4;      // of each, to see which are worth more
constexpr double kWorthMore = 1.2;  // times the best of the screening
constexpr size_t kFinalists = 8;
constexpr int kRounds = 7;      // turns of the finalists; the median of them counts
constexpr double kGain = 0.99;  // of the first one's time, to take its place
constexpr int kRepeats = 4;     // runs that must agree
constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr auto kRest = std::chrono::seconds(5);

// Waits, but not for ever: work before may itself wait for another thread, which may need something
// that this one holds, as Python's lock.
bool comes_to_rest(Stream stream) {
  const auto deadline = std::chrono::steady_clock::now() + kRest;
  while (!query_stream(stream)) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return true;
}

struct EventDeleter {
  void operator()(Event* event) const { destroy_event(event); }
};

struct Candidate {
  Heuristic found;
  double screened = kNever;    // milliseconds
  std::vector<double> rounds;  // milliseconds a run
  double median() const {
    std::vector<double> sorted = rounds;
    std::ranges::sort(sorted);
    return sorted.empty() ? kNever : sorted[sorted.size() / 2];
  }
};

bool same(const Algorithm& a, const Algorithm& b) { return !std::memcmp(&a, &b, sizeof a); }

// Parts of a split product are added by one more kernel, in order. Other schemes add with atomics
// or in rounded numbers.
bool is_reproducible(const Algorithm& algorithm) {
  uint32_t reduction = 0;
  size_t written = 0;
  return api().algorithm_get(&algorithm, kAlgorithmReduction, &reduction, sizeof reduction,
                             &written) == kSuccess &&
         (reduction == kNoReduction || reduction == kReduceInComputeType);
}

class Trial {
 public:
  Trial(const Key& key, int index)
      : key_(key),
        index_(index),
        sets_(key, index),
        plan_(key, sets_[0]),
        start_(create_event(index, true)),
        end_(create_event(index, true)) {}

  std::optional<Measured> run() {
    gather();
    if (candidates_.empty()) return std::nullopt;
    for (Candidate& each : candidates_) screen(each);
    add_splits();
    choose_finalists();
    race();
    const double first = candidates_[0].median();
    std::vector<const Candidate*> order;
    for (const Candidate& each : candidates_) order.push_back(&each);
    std::ranges::stable_sort(order, {}, [](const Candidate* each) { return each->median(); });
    for (const Candidate* each : order)
      if (each->median() < first * kGain && repeats(*each))
        return Measured{each->found.algorithm, each->median(), first};
    return Measured{std::nullopt, first, first};
  }

 private:
  // The first is the one that counts without tuning.
  void gather() {
    for (const Heuristic& each : plan_.candidates(key_, kWorkspaceBytes, 1)) add(each);
    if (candidates_.empty()) return;
    for (size_t workspace : {kWorkspaceBytes, kMostWorkspaceBytes})
      for (const Heuristic& each : plan_.candidates(key_, workspace, kAsked))
        if (is_reproducible(each.algorithm) && plan_.checked(key_, each.algorithm)) add(each);
  }

  void add(const Heuristic& found) {
    for (const Candidate& each : candidates_)
      if (same(each.found.algorithm, found.algorithm)) return;
    candidates_.push_back({found, kNever, {}});
  }

  // Variants of the best ones with K split, where results are too few to fill the GPU some times.
  void add_splits() {
    const int64_t tiles = (key_.m + 127) / 128 * ((key_.n + 127) / 128) * key_.batch;
    if (key_.k < 512 || tiles > 4 * multiprocessors(index_)) return;
    std::vector<Candidate> best = candidates_;
    std::ranges::stable_sort(best, {}, &Candidate::screened);
    if (best.size() > 4) best.resize(4);
    const size_t known = candidates_.size();
    for (const Candidate& each : best)
      for (int32_t splits : {1, 2, 3, 4, 6, 8, 12, 16}) {
        Algorithm algorithm = each.found.algorithm;
        const uint32_t reduction = splits == 1 ? kNoReduction : kReduceInComputeType;
        if (api().algorithm_set(&algorithm, kAlgorithmSplits, &splits, sizeof splits) != kSuccess ||
            api().algorithm_set(&algorithm, kAlgorithmReduction, &reduction, sizeof reduction) !=
                kSuccess)
          continue;
        if (const auto found = plan_.checked(key_, algorithm)) add(*found);
      }
    for (size_t i = known; i < candidates_.size(); ++i) screen(candidates_[i]);
  }

  void choose_finalists() {
    double best = kNever;
    for (const Candidate& each : candidates_) best = std::min(best, each.screened);
    const auto rest = candidates_.begin() + 1;
    std::stable_sort(rest, candidates_.end(), [](const Candidate& a, const Candidate& b) {
      return a.screened < b.screened;
    });
    candidates_.erase(
        std::find_if(rest, candidates_.end(),
                     [&](const Candidate& each) { return !(each.screened <= best * kWorthMore); }),
        candidates_.end());
    if (candidates_.size() > kFinalists) candidates_.resize(kFinalists);
  }

  // All take turns, so that a slow moment of the machine meets all of them.
  void race() {
    const ProductChoices& wanted = product_choices();
    const int rounds = std::clamp(wanted.max_iterations.load(), 1, kRounds);
    for (int round = 0; round < rounds; ++round)
      for (size_t i = 0; i < candidates_.size(); ++i) {
        Candidate& each = candidates_[round % 2 ? candidates_.size() - 1 - i : i];
        const double fit = wanted.max_milliseconds / std::max(each.screened, 1e-4);
        const double runs = std::min<double>(wanted.max_iterations, fit) / rounds;
        const double taken = time(each, static_cast<int>(std::max(runs, 1.0)));
        each.rounds.push_back(taken);
      }
  }

  void screen(Candidate& candidate) {
    if (time(candidate, 1) == kNever) return;  // its code is loaded now
    candidate.screened = time(candidate, kScreenRuns);
  }

  // Milliseconds a run; kNever where the library cannot run it.
  double time(const Candidate& candidate, int runs) {
    const Stream stream = stream_of_now();
    plan_.heuristic = candidate.found;
    pause_stream(device_at(index_), 20'000 + runs * int64_t{10'000});  // the host gets ahead
    record_event(*start_, stream);
    for (int i = 0; i < runs; ++i)
      if (launch(sets_[next_++ % sets_.count()]) != kSuccess) return kNever;
    record_event(*end_, stream);
    synchronize_event(*end_);
    return elapsed_ms(*start_, *end_) / runs;
  }

  // The same bits whatever the memory held?
  bool repeats(const Candidate& candidate) {
    plan_.heuristic = candidate.found;
    uint64_t first = 0;
    for (int i = 0; i < kRepeats; ++i) {
      sets_.blot(i % 2 ? 0xff : 0);
      if (launch(sets_[0]) != kSuccess) return false;
      const uint64_t bits = sets_.results();
      if (i == 0) first = bits;
      if (bits != first) return false;
      if (sets_.count() > 1 && launch(sets_[1]) != kSuccess) return false;  // another workspace
    }
    return true;
  }

  Status launch(const Gemm& gemm) {
    plan_.point_to(gemm);
    return plan_.run(gemm);
  }

  Stream stream_of_now() const { return {device_at(index_), current_stream(index_)}; }

  Key key_;
  int index_;
  OperandSets sets_;
  Plan plan_;
  std::unique_ptr<Event, EventDeleter> start_, end_;
  std::vector<Candidate> candidates_;
  int next_ = 0;
};

}  // namespace

std::optional<Measured> measure(const Key& key) {
  static std::mutex mutexes[kMaxDevices];
  const int index = static_cast<int>(key.device);
  const RelaxedCapture relaxed;  // another thread may begin a capture
  if (!comes_to_rest({device_at(index), current_stream(index)})) return std::nullopt;
  std::lock_guard lock(mutexes[index]);  // no two at a time, which would slow each other
  try {
    return Trial(key, index).run();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kOutOfMemory) throw;
    return std::nullopt;
  }
}

}  // namespace vt::cuda::cublaslt
