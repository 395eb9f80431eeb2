// Into how many parts along k a float32 product on tensor cores is cut.
#pragma once
#include <cstdint>

namespace vt {

struct SplitPlan {
  int parts = 1;
  int part = 0;       // how long a part of k is: a multiple of 64
  double cycles = 0;  // what the rule expects the product to take
};

// The plan that the rule expects to be the fastest. All sizes are at least 1.
SplitPlan plan_split(int64_t m, int64_t n, int64_t k, int64_t batch, int multiprocessors);

// Does a product gain by tensor cores, or is plain float32 arithmetic at least as fast?
bool split_pays(const SplitPlan& plan, int64_t m, int64_t n, int64_t k, int64_t batch,
                int multiprocessors);

}  // namespace vt
