// Grids and chunks of the push pipeline.
#include "collectives/cuda/algorithms/push.h"

#include <algorithm>

#include "collectives/cuda/algorithms/kernels.h"

namespace vt::collectives::gpu::push {
namespace {

constexpr int kThreads = 1024;
constexpr size_t kChunk = 128 << 10, kLeastChunk = 8 << 10;  // bytes

bool begins_at_a_word(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

void run_piece(Site& site, const Unit& unit, const direct::Args& buffers, size_t bytes,
               const Plan& plan) {
  const size_t ranks = site.ranks();
  const void* const function = kernel(unit.dtype, unit.call().op, site.ranks());
  const int threads = plan.threads ? plan.threads : kThreads;
  const int most = std::min(site.most_blocks(threads), plan.blocks ? plan.blocks : kMaxBlocks);
  const size_t slice = (bytes + ranks - 1) / ranks;
  // As large as pays, but so that all blocks get some, and that the slots fit their memory.
  size_t chunk = plan.chunk ? plan.chunk : std::clamp(slice / most, kLeastChunk, kChunk);
  chunk = std::min(chunk, site.scratch_bytes() / (most * kSlots * (ranks - 1)));
  chunk = std::max<size_t>(chunk / 16 * 16, 16);
  Args args{};
  args.buffers = buffers;
  args.buffers.count = static_cast<int64_t>(bytes / item_size(unit.dtype));
  args.slot_bytes = static_cast<int64_t>(chunk);
  args.words = static_cast<int64_t>((bytes + 15) / 16);
  args.chunk = static_cast<int64_t>(chunk / 16);
  args.aligned = true;
  for (int r = 0; r < site.ranks(); ++r) {
    args.slots[r] = site.scratch<char>(r);
    args.aligned &= begins_at_a_word(buffers.in[r]) && begins_at_a_word(buffers.out[r]);
  }
  const int64_t slice_words = (args.words + site.ranks() - 1) / site.ranks();
  const int64_t chunks = (slice_words + args.chunk - 1) / args.chunk;
  const int blocks = static_cast<int>(std::min<int64_t>(chunks, most));
  site.launch(function, blocks, threads, &args, args.buffers.clique);
}

}  // namespace

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

void for_each_kernel(void (*f)(const void* kernel)) { for_each_reduction(kernel, f); }

// Few blocks wait too long for each other's chunks. Where copy engines would be faster and cannot
// be used, it comes next.
bool suits(const Site& site, const Unit& unit) {
  if (!site.spread() || site.narrow(unit)) return false;
  const Algorithm fastest = fastest_all_reduce(site, unit);
  return fastest == Algorithm::kPush || fastest == Algorithm::kCopyEngine;
}

void run(Site& site, const Unit& unit, const Plan& plan) {
  direct::for_each_piece(site, unit, [&](direct::Args& buffers, size_t bytes) {
    run_piece(site, unit, buffers, bytes, plan);
  });
}

}  // namespace vt::collectives::gpu::push
