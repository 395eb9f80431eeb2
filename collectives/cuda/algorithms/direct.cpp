// Launches of kernels on all ranks' buffers; broadcast and barrier.
#include "collectives/cuda/algorithms/direct.h"

#include <algorithm>

namespace vt::collectives::gpu::direct {
namespace {

constexpr int kThreads = 512;
constexpr size_t kBytesPerBlock = 16 << 10;  // of a rank's slice

}  // namespace

void run_broadcast(Site& site, const Unit& unit, const Plan& plan) {
  for_each_piece(site, unit, [&](Args& args, size_t bytes) {
    args.count = static_cast<int64_t>(bytes);
    const int threads = plan.threads ? plan.threads : kThreads;
    const int most = std::min(site.most_blocks(threads), plan.blocks ? plan.blocks : 64);
    const size_t blocks = bytes / site.ranks() / kBytesPerBlock;
    site.launch(broadcast_kernel(), static_cast<int>(std::clamp<size_t>(blocks, 1, most)), threads,
                &args, args.clique);
  });
}

void run_barrier(Site& site, const Unit&, const Plan&) {
  BarrierArgs args{};
  args.spread = site.spread();
  site.launch_early(barrier_kernel(), 1, 32, &args, args.clique);
}

void each_broadcast_kernel(void (*f)(const void* kernel)) { f(broadcast_kernel()); }
void each_barrier_kernel(void (*f)(const void* kernel)) { f(barrier_kernel()); }

}  // namespace vt::collectives::gpu::direct
