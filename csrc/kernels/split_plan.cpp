// The rule by which float32 products on tensor cores are cut. Its constants are of one H200.
#include "kernels/split_plan.h"

#include <algorithm>

namespace vt {
namespace {

// In cycles of a multiprocessor, which has one tile of 128 x 128 at a time.
constexpr int64_t kRows = 128, kColumns = 128, kStep = 64;
constexpr double kStepCycles = 3800;     // kStep along k
constexpr double kTileCycles = 6000;     // the first numbers and the results
constexpr double kStartCycles = 1500;    // the launch
constexpr double kAddCycles = 3500;      // one more kernel, for the parts
constexpr double kBytesPerCycle = 2000;  // of all memory
constexpr int64_t kLeastPart = 128;      // shorter parts of k are not worth their sums
constexpr int64_t kMostParts = 132;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

SplitPlan plan_split(int64_t m, int64_t n, int64_t k, int64_t batch, int multiprocessors) {
  const int64_t tiles = ceil_div(m, kRows) * ceil_div(n, kColumns) * batch;
  const int64_t most = std::clamp<int64_t>(k / kLeastPart, 1, kMostParts);
  const double out_bytes = 4 * static_cast<double>(m) * static_cast<double>(n * batch);
  SplitPlan best;
  // One part, or as many as fill the GPU once to four times.
  for (int64_t turns = 0; turns <= 4; ++turns) {
    const int64_t wanted = std::clamp<int64_t>(turns * multiprocessors / tiles, 1, most);
    const int64_t part = ceil_div(ceil_div(k, wanted), kStep) * kStep, parts = ceil_div(k, part);
    const auto rounds = static_cast<double>(ceil_div(tiles * parts, multiprocessors));
    double cycles =
        rounds * (static_cast<double>(part / kStep) * kStepCycles + kTileCycles) + kStartCycles;
    if (parts > 1)
      cycles += kAddCycles + out_bytes * (2 * static_cast<double>(parts) + 1) / kBytesPerCycle;
    if (best.part == 0 || cycles < best.cycles)
      best = {static_cast<int>(parts), static_cast<int>(part), cycles};
  }
  return best;
}

bool split_pays(const SplitPlan& plan, int64_t m, int64_t n, int64_t k, int64_t batch,
                int multiprocessors) {
  constexpr double kMultiplyAdds = 80;  // a cycle and multiprocessor, in plain arithmetic
  constexpr double kOutside = 3500;
  const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) *
                      static_cast<double>(batch);
  return plan.cycles < work / (kMultiplyAdds * multiprocessors) + kOutside;
}

}  // namespace vt
