// Grids and mailboxes of the two-phase all-reduce by packets.
#include "collectives/cuda/algorithms/packet_two.h"

#include <algorithm>

#include "collectives/cuda/algorithms/kernels.h"

namespace vt::collectives::gpu::packets2 {
namespace {

constexpr size_t kCapacity = 2 << 20;  // bytes that one launch can take

int place_blocks(const Site& site) { return site.most_blocks(512); }
int64_t stretch(int ranks) {
  return static_cast<int64_t>(kCapacity / kPacketBytes / ranks) + kMaxBlocks;
}

}  // namespace

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

void for_each_kernel(void (*f)(const void* kernel)) { for_each_reduction(kernel, f); }

size_t mailbox(const Mesh& mesh) { return 4 * mesh.size() * sizeof(Packet) * stretch(mesh.size()); }

// On two ranks it sends as much as one shot does, and waits twice.
bool suits(const Site& site, const Unit& unit) {
  if (site.ranks() <= 2) return false;
  return unit.bytes() <= (site.spread() ? 2 << 20 : site.ranks() <= 4 ? 1 << 20 : 512 << 10);
}

void run(Site& site, const Unit& unit, const Plan& plan) {
  const Call& call = unit.call();
  const size_t number = number_of(*find_algorithm(Kind::kAllReduce, Algorithm::kPackets2));
  const int64_t ranks = site.ranks();
  Args args{};
  args.stretch = stretch(site.ranks());
  args.room = args.stretch / place_blocks(site);
  args.average = call.op == ReduceOp::kAvg;
  for (int r = 0; r < ranks; ++r) args.mailboxes[r] = site.mailbox<Packet>(r, number);
  const void* const function = kernel(call.input.dtype(), call.op, site.ranks());

  for (size_t at = 0; at < unit.bytes();) {
    const size_t left = unit.bytes() - at;
    const int64_t wanted = (static_cast<int64_t>(left) + kPacketBytes * ranks - 1) /
                           (kPacketBytes * ranks);  // packets of a slice
    int threads = plan.threads ? plan.threads : (site.spread() ? 512 : 256);
    threads = static_cast<int>(std::min<int64_t>(threads, (wanted + 31) / 32 * 32));
    const int most = std::min(site.most_blocks(threads), place_blocks(site));
    const int64_t blocks = std::clamp<int64_t>((wanted + threads - 1) / threads, 1,
                                               plan.blocks ? std::min(plan.blocks, most) : most);
    args.packets_per_block = std::min((wanted + blocks - 1) / blocks, args.room);
    args.slice = std::min(wanted, args.packets_per_block * blocks);
    const size_t bytes = std::min(left, static_cast<size_t>(args.slice * ranks) * kPacketBytes);
    args.count = static_cast<int64_t>(bytes / item_size(call.input.dtype()));
    const int grid =
        static_cast<int>((args.slice + args.packets_per_block - 1) / args.packets_per_block);
    for (int r = 0; r < ranks; ++r) {
      args.clique = site.clique(r);
      args.in = unit.calls[r].input.data<char>() + at;
      args.out = unit.calls[r].output.data<char>() + at;
      site.launch_early(function, r, grid, threads, &args);
    }
    at += bytes;
  }
}

}  // namespace vt::collectives::gpu::packets2
