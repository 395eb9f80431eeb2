// The rule by which float32 products on tensor cores are cut. Its constants are of one H200.
#include "kernels/split_plan.h"

#include <algorithm>

namespace vt {
namespace {

struct Tile {
  SplitTile name;
  int64_t rows, columns;
  double step;     // cycles of a multiprocessor for 16 along k, where it has several blocks
  double alone;    // how much longer a step takes where it has one
  double outside;  // cycles to start a block and to store its results
};
constexpr Tile kTiles[] = {
    {SplitTile::k128x128, 128, 128, 1600, 1.5, 3000},
    {SplitTile::k128x64, 128, 64, 850, 1.6, 2500},
    {SplitTile::k64x64, 64, 64, 480, 1.8, 2000},
};
constexpr double kAddLaunch = 3000;      // cycles that one more kernel takes
constexpr double kBytesPerCycle = 2000;  // of all memory
constexpr int64_t kLeastPart = 128;      // shorter parts of k are not worth their sums
constexpr int64_t kMostParts = 128;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

SplitPlan plan_with(const Tile& tile, int64_t m, int64_t n, int64_t k, int64_t batch,
                    int multiprocessors, int64_t wanted) {
  const int64_t part = ceil_div(ceil_div(k, wanted), 16) * 16, parts = ceil_div(k, part);
  const int64_t blocks = ceil_div(m, tile.rows) * ceil_div(n, tile.columns) * batch * parts;
  const int64_t rounds = ceil_div(blocks, multiprocessors);
  const double steps = static_cast<double>(ceil_div(part, 16));
  double cycles = static_cast<double>(rounds) * (steps * tile.step) + tile.outside +
                  static_cast<double>(rounds) * tile.outside / 4;
  if (rounds == 1) cycles = steps * tile.step * tile.alone + tile.outside;
  if (parts > 1)
    cycles += kAddLaunch + static_cast<double>(m * n * batch) * 4 *
                               (2.0 * static_cast<double>(parts) + 1) / kBytesPerCycle;
  return {tile.name, static_cast<int>(parts), static_cast<int>(part), cycles};
}

}  // namespace

SplitPlan plan_split(int64_t m, int64_t n, int64_t k, int64_t batch, int multiprocessors) {
  SplitPlan best;
  for (const Tile& tile : kTiles) {
    const int64_t most = std::clamp<int64_t>(k / kLeastPart, 1, kMostParts);
    for (int64_t parts = 1; parts <= most; ++parts) {
      const SplitPlan plan = plan_with(tile, m, n, k, batch, multiprocessors, parts);
      if (best.part == 0 || plan.cycles < best.cycles) best = plan;
    }
  }
  return best;
}

bool split_pays(const SplitPlan& plan, int64_t m, int64_t n, int64_t k, int64_t batch,
                int multiprocessors) {
  constexpr double kMultiplyAdds = 80;  // a cycle and multiprocessor, in plain arithmetic
  constexpr double kOutside = 2500;
  const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) *
                      static_cast<double>(batch);
  return plan.cycles < work / (kMultiplyAdds * multiprocessors) + kOutside;
}

}  // namespace vt
