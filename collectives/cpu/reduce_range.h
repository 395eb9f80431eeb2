// The inner loop of the CPU engine, compiled once for each instruction set in simd/.
#pragma once
#include "base/dtype.h"
#include "collectives/collective.h"

namespace vt::collectives {

struct Buffers {
  const void* in[fabric::kMaxRanks];
  void* out[fabric::kMaxRanks];
  int ranks, outputs;
};

// out[p][i] = op over r of in[r][i] for i in [begin, end) and every output p, combined in the order
// of the ranks.
using ReduceRange = void (*)(const Buffers&, int64_t begin, int64_t end);

// Null for bool.
namespace base {
ReduceRange reduce_range(DType dtype, ReduceOp op);
}
#if defined(__x86_64__)
namespace avx2 {
ReduceRange reduce_range(DType dtype, ReduceOp op);
}
namespace avx512 {
ReduceRange reduce_range(DType dtype, ReduceOp op);
}
#endif

}  // namespace vt::collectives
