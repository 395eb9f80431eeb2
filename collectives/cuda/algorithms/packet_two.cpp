// Grids and mailboxes of the two-phase all-reduce by packets.
#include "collectives/cuda/algorithms/packet_two.h"

#include "collectives/cuda/algorithms/kernels.h"

namespace vt::collectives::gpu::packets2 {
namespace {

constexpr size_t kCapacity = 2 << 20;  // bytes that one launch can take

// A unit is one packet of every slice.
size_t unit_bytes(int ranks) { return static_cast<size_t>(kPacketBytes) * ranks; }
int64_t stretch(int ranks) { return mailboxes::stretch_of(kCapacity, unit_bytes(ranks)); }

int default_threads(const Site& site, size_t) { return site.spread() ? 512 : 256; }

}  // namespace

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

void for_each_kernel(void (*f)(const void* kernel)) { for_each_reduction(kernel, f); }

size_t mailbox(const Mesh& mesh) { return 4 * mesh.size() * sizeof(Packet) * stretch(mesh.size()); }

// Within a device sending costs little.
bool suits(const Site& site, const Unit& unit) {
  return site.spread() && fastest_all_reduce(site, unit) == Algorithm::kPackets2;
}

void run(Site& site, const Unit& unit, const Plan& plan) {
  const int ranks = site.ranks();
  mailboxes::run(site, unit, plan,
                 {Algorithm::kPackets2, unit_bytes(ranks), 1, stretch(ranks), default_threads},
                 kernel(unit.dtype, unit.call().op, ranks));
}

}  // namespace vt::collectives::gpu::packets2
