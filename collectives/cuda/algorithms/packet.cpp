// Grids and mailboxes of the one-shot by packets.
#include "collectives/cuda/algorithms/packet.h"

#include "collectives/cuda/algorithms/kernels.h"

namespace vt::collectives::gpu::packets {
namespace {

constexpr size_t kGroup = 64 << 10;  // up to here blocks of 512 threads, larger ones above

// Bytes of a rank that one launch can take: a rank receives from all others.
size_t capacity(int ranks) { return ranks <= 2 ? 2 << 20 : 512 << 10; }
int64_t stretch(int ranks) { return mailboxes::stretch_of(capacity(ranks), kPacketBytes); }

int default_threads(const Site& site, size_t bytes) {
  // Measured with 4 ranks on one GPU: half the threads, twice the packets each, half the time.
  const bool crowded = !site.spread() && site.ranks() > 2;
  return crowded || bytes <= kGroup ? 512 : kMaxThreads;
}

}  // namespace

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

void for_each_kernel(void (*f)(const void* kernel)) { for_each_reduction(kernel, f); }

size_t mailbox(const Mesh& mesh) { return 2 * mesh.size() * sizeof(Packet) * stretch(mesh.size()); }

bool suits(const Site& site, const Unit& unit) {
  if (site.spread()) return fastest_all_reduce(site, unit) == Algorithm::kPackets;
  // Ranks that share a GPU share its memory: there, sending more than is needed costs sooner.
  return unit.bytes() <= (site.ranks() == 2 ? 1 << 20 : site.ranks() <= 4 ? 96 << 10 : 2 << 10);
}

void run(Site& site, const Unit& unit, const Plan& plan) {
  mailboxes::run(site, unit, plan,
                 {Algorithm::kPackets, kPacketBytes, 1, stretch(site.ranks()), default_threads},
                 kernel(unit.dtype, unit.call().op, site.ranks()));
}

}  // namespace vt::collectives::gpu::packets
