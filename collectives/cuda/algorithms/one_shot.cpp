// Grids and memory of the one-shot.
#include "collectives/cuda/algorithms/one_shot.h"

#include <algorithm>

#include "collectives/cuda/algorithms/kernels.h"

namespace vt::collectives::gpu::one_shot {
namespace {

constexpr size_t kCapacity = 2 << 20;  // bytes that one launch can take
constexpr int64_t kStretch = kCapacity / 16 + kMaxBlocks;

int place_blocks(const Site& site) { return site.most_blocks(512); }

}  // namespace

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

void for_each_kernel(void (*f)(const void* kernel)) { for_each_reduction(kernel, f); }

size_t mailbox(const Mesh&) { return 2 * 16 * kStretch; }

// Packets are faster as long as the doubled traffic is not felt, the two-shot when n-fold traffic
// is.
bool suits(const Site&, const Unit&) { return false; }

void run(Site& site, const Unit& unit, const Plan& plan) {
  const Call& call = unit.call();
  const size_t number = number_of(*find_algorithm(Kind::kAllReduce, Algorithm::kOneShot));
  Args args{};
  args.stretch = kStretch;
  args.room = args.stretch / place_blocks(site);
  args.average = call.op == ReduceOp::kAvg;
  for (int r = 0; r < site.ranks(); ++r) args.copies[r] = site.mailbox<uint4>(r, number);
  const void* const function = kernel(call.input.dtype(), call.op, site.ranks());

  for (size_t at = 0; at < unit.bytes();) {
    const size_t left = unit.bytes() - at;
    const int64_t wanted = static_cast<int64_t>((left + 15) / 16);
    int threads = plan.threads ? plan.threads : 512;
    threads = static_cast<int>(std::min<int64_t>(threads, (wanted + 31) / 32 * 32));
    const int most = std::min(site.most_blocks(threads), place_blocks(site));
    const int64_t blocks = std::clamp<int64_t>((wanted + threads - 1) / threads, 1,
                                               plan.blocks ? std::min(plan.blocks, most) : most);
    args.words_per_block = std::min((wanted + blocks - 1) / blocks, args.room);
    const int64_t words = std::min(wanted, args.words_per_block * blocks);
    const size_t bytes = std::min(left, static_cast<size_t>(words) * 16);
    args.count = static_cast<int64_t>(bytes / item_size(call.input.dtype()));
    const int grid = static_cast<int>((words + args.words_per_block - 1) / args.words_per_block);
    for (int r = 0; r < site.ranks(); ++r) {
      args.clique = site.clique(r);
      args.in = unit.calls[r].input.data<char>() + at;
      args.out = unit.calls[r].output.data<char>() + at;
      site.launch_early(function, r, grid, threads, &args);
    }
    at += bytes;
  }
}

}  // namespace vt::collectives::gpu::one_shot
