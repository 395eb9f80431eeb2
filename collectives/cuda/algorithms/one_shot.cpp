// Grids and memory of the one-shot.
#include "collectives/cuda/algorithms/one_shot.h"

#include "collectives/cuda/algorithms/kernels.h"

namespace vt::collectives::gpu::one_shot {
namespace {

constexpr int kWordBytes = 16;
// For as many bytes as one launch can take.
constexpr int64_t kStretch = mailboxes::stretch_of(2 << 20, kWordBytes);

int default_threads(const Site&, size_t) { return 512; }

}  // namespace

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

void for_each_kernel(void (*f)(const void* kernel)) { for_each_reduction(kernel, f); }

size_t mailbox(const Mesh&) { return 2 * kWordBytes * kStretch; }

// Within a device everybody can read everything: packets are faster as long as their doubled
// traffic is not felt, the two-shot when n-fold traffic is.
bool suits(const Site& site, const Unit& unit) {
  return site.ranks() > 2 && !site.spread() &&
         unit.bytes() <= (site.ranks() <= 4 ? 512 << 10 : 256 << 10);
}

void run(Site& site, const Unit& unit, const Plan& plan) {
  mailboxes::run(site, unit, plan, {Algorithm::kOneShot, kWordBytes, 1, kStretch, default_threads},
                 kernel(unit.dtype, unit.call().op, site.ranks()));
}

}  // namespace vt::collectives::gpu::one_shot
