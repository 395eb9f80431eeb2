// Which tiles a float32 product on tensor cores is cut into, and into how many parts along k.
#pragma once
#include <cstdint>

namespace vt {

enum class SplitTile : uint8_t { k128x128, k128x64, k64x64 };

struct SplitPlan {
  SplitTile tile = SplitTile::k128x128;
  int parts = 1;
  int part = 0;       // how long a part of k is: a multiple of 16
  double cycles = 0;  // what the rule expects the product to take

  int64_t rows() const { return tile == SplitTile::k64x64 ? 64 : 128; }
  int64_t columns() const { return tile == SplitTile::k128x128 ? 128 : 64; }
};

// The plan that the rule expects to be the fastest. All sizes are at least 1.
SplitPlan plan_split(int64_t m, int64_t n, int64_t k, int64_t batch, int multiprocessors);

// Does a product gain by tensor cores, or is plain float32 arithmetic at least as fast?
bool split_pays(const SplitPlan& plan, int64_t m, int64_t n, int64_t k, int64_t batch,
                int multiprocessors);

}  // namespace vt
