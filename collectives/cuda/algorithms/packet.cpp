// Grids and mailboxes of the one-shot by packets.
#include "collectives/cuda/algorithms/packet.h"

#include <algorithm>

#include "collectives/cuda/algorithms/kernels.h"

namespace vt::collectives::gpu::packets {
namespace {

constexpr size_t kGroup = 64 << 10;  // up to here blocks of 512 threads, larger ones above

// Bytes of a rank that one launch can take: a rank receives from all others.
size_t capacity(int ranks) { return ranks <= 2 ? 2 << 20 : 512 << 10; }

int default_threads(const Site& site, size_t bytes) {
  // Measured with 4 ranks on one GPU: half the threads, twice the packets each, a third less time.
  if (!site.spread() && site.ranks() > 2) return 256;
  return bytes <= kGroup ? 512 : kMaxThreads;
}

// A block's place in the mailbox never changes, see Note [Packet mailboxes].
int place_blocks(const Site& site) { return site.most_blocks(512); }

}  // namespace

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

void for_each_kernel(void (*f)(const void* kernel)) { for_each_reduction(kernel, f); }

size_t mailbox(const Mesh& mesh) {
  // Rounding to whole places of a block takes up to a packet for each of them.
  return 2 * mesh.size() * sizeof(Packet) * (capacity(mesh.size()) / kPacketBytes + kMaxBlocks);
}

bool suits(const Site& site, const Unit& unit) {
  // Ranks that share a GPU share its memory: there, sending more than is needed costs sooner.
  const size_t shared = site.ranks() == 2 ? 1 << 20 : site.ranks() <= 4 ? 128 << 10 : 64 << 10;
  return unit.bytes() <= (site.spread() ? capacity(site.ranks()) : shared);
}

void run(Site& site, const Unit& unit, const Plan& plan) {
  const Call& call = unit.call();
  const int64_t size = item_size(call.input.dtype());
  const size_t number = number_of(*find_algorithm(Kind::kAllReduce, Algorithm::kPackets));
  Args args{};
  args.stretch = static_cast<int64_t>(capacity(site.ranks()) / kPacketBytes) + kMaxBlocks;
  args.room = args.stretch / place_blocks(site);
  args.average = call.op == ReduceOp::kAvg;
  for (int r = 0; r < site.ranks(); ++r) args.mailboxes[r] = site.mailbox<Packet>(r, number);
  const void* const function = kernel(call.input.dtype(), call.op, site.ranks());

  for (size_t at = 0; at < unit.bytes();) {
    const size_t left = unit.bytes() - at;
    const int64_t wanted = static_cast<int64_t>((left + kPacketBytes - 1) / kPacketBytes);
    int threads = plan.threads ? plan.threads : default_threads(site, left);
    threads = static_cast<int>(std::min<int64_t>(threads, (wanted + 31) / 32 * 32));
    const int most = std::min(site.most_blocks(threads), place_blocks(site));
    const int64_t blocks = std::clamp<int64_t>((wanted + threads - 1) / threads, 1,
                                               plan.blocks ? std::min(plan.blocks, most) : most);
    args.packets_per_block = std::min((wanted + blocks - 1) / blocks, args.room);
    const int64_t packets = std::min(wanted, args.packets_per_block * blocks);
    const size_t bytes = std::min(left, static_cast<size_t>(packets) * kPacketBytes);
    args.count = static_cast<int64_t>(bytes) / size;
    // None without a packet.
    const int grid =
        static_cast<int>((packets + args.packets_per_block - 1) / args.packets_per_block);
    for (int r = 0; r < site.ranks(); ++r) {
      args.clique = site.clique(r);
      args.in = unit.calls[r].input.data<char>() + at;
      args.out = unit.calls[r].output.data<char>() + at;
      site.launch_early(function, r, grid, threads, &args);
    }
    at += bytes;
  }
}

}  // namespace vt::collectives::gpu::packets
