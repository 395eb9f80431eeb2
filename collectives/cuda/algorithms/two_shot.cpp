// Grids of the two-shot.
#include "collectives/cuda/algorithms/two_shot.h"

#include <algorithm>

#include "collectives/cuda/algorithms/kernels.h"

namespace vt::collectives::gpu::two_shot {
namespace {

constexpr int kThreads = 512;
constexpr size_t kBytesPerBlock = 16
                                  << 10;  // of a rank's slice: less does not pay for another block

}  // namespace

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

void for_each_kernel(void (*f)(const void* kernel)) { for_each_reduction(kernel, f); }

void run_piece(const Site& site, direct::Args& args, size_t bytes, DType dtype, ReduceOp op,
               const Plan& plan) {
  args.count = static_cast<int64_t>(bytes / item_size(dtype));
  const int threads = plan.threads ? plan.threads : kThreads;
  const int most = std::min(site.most_blocks(threads), plan.blocks ? plan.blocks : 64);
  const size_t blocks = bytes / site.ranks() / kBytesPerBlock;
  site.launch(kernel(dtype, op, site.ranks()),
              static_cast<int>(std::clamp<size_t>(blocks, 1, most)), threads, &args, args.clique);
}

void run(Site& site, const Unit& unit, const Plan& plan) {
  direct::for_each_piece(site, unit, [&](direct::Args& args, size_t bytes) {
    run_piece(site, args, bytes, unit.dtype, unit.call().op, plan);
  });
}

}  // namespace vt::collectives::gpu::two_shot
