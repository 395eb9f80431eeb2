// Grids and mailboxes of the one-shot by lines.
#include "collectives/cuda/algorithms/line.h"

#include <algorithm>

#include "collectives/cuda/algorithms/kernels.h"

namespace vt::collectives::gpu::lines {
namespace {

constexpr size_t kGroup = 1 << 20;  // up to here blocks of 512 threads, larger ones above

// Bytes of a rank that one launch can take: a rank receives from all others.
size_t capacity(int ranks) { return ranks <= 2 ? 4 << 20 : 512 << 10; }

// A block's place in the mailbox never changes, see Note [Packet mailboxes].
int place_blocks(const Site& site) { return site.most_blocks(512); }

}  // namespace

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

void for_each_kernel(void (*f)(const void* kernel)) { for_each_reduction(kernel, f); }

size_t mailbox(const Mesh& mesh) {
  // Rounding to whole places of a block takes up to a line for each of them.
  return 2 * mesh.size() * sizeof(Line) * (capacity(mesh.size()) / kLineBytes + kMaxBlocks);
}

// Only where it was measured, and every value was right: that a line is seen whole is a property of
// the machine, see Note [Whole lines].
bool suits(const Site&, const Unit&) { return false; }

void run(Site& site, const Unit& unit, const Plan& plan) {
  const Call& call = unit.call();
  const int64_t size = item_size(call.input.dtype());
  const size_t number = number_of(*find_algorithm(Kind::kAllReduce, Algorithm::kLines));
  Args args{};
  args.stretch = static_cast<int64_t>(capacity(site.ranks()) / kLineBytes) + kMaxBlocks;
  args.room = args.stretch / place_blocks(site);
  args.average = call.op == ReduceOp::kAvg;
  for (int r = 0; r < site.ranks(); ++r) args.mailboxes[r] = site.mailbox<Line>(r, number);
  const void* const function = kernel(call.input.dtype(), call.op, site.ranks());

  for (size_t at = 0; at < unit.bytes();) {
    const size_t left = unit.bytes() - at;
    const int64_t wanted = static_cast<int64_t>((left + kLineBytes - 1) / kLineBytes);
    int threads = plan.threads ? plan.threads : (left <= kGroup ? 512 : kMaxThreads);
    threads = static_cast<int>(std::min<int64_t>(threads, (wanted + 3) / 4 * 32));
    const int64_t at_once = threads / 8;  // a line takes 8 threads
    const int most = std::min(site.most_blocks(threads), place_blocks(site));
    const int64_t blocks = std::clamp<int64_t>((wanted + at_once - 1) / at_once, 1,
                                               plan.blocks ? std::min(plan.blocks, most) : most);
    args.lines_per_block = std::min((wanted + blocks - 1) / blocks, args.room);
    const int64_t lines = std::min(wanted, args.lines_per_block * blocks);
    const size_t bytes = std::min(left, static_cast<size_t>(lines) * kLineBytes);
    args.count = static_cast<int64_t>(bytes) / size;
    // None without a line.
    const int grid = static_cast<int>((lines + args.lines_per_block - 1) / args.lines_per_block);
    for (int r = 0; r < site.ranks(); ++r) {
      args.clique = site.clique(r);
      args.in = unit.calls[r].input.data<char>() + at;
      args.out = unit.calls[r].output.data<char>() + at;
      site.launch_early(function, r, grid, threads, &args);
    }
    at += bytes;
  }
}

}  // namespace vt::collectives::gpu::lines
