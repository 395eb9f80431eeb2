// Grids and mailboxes of the one-shot by lines.
#include "collectives/cuda/algorithms/line.h"

#include "collectives/cuda/algorithms/kernels.h"

namespace vt::collectives::gpu::lines {
namespace {

constexpr size_t kGroup = 1 << 20;  // up to here blocks of 512 threads, larger ones above
constexpr int kLanes = 8;           // 16 bytes of a line a thread

// Bytes of a rank that one launch can take: a rank receives from all others.
size_t capacity(int ranks) { return ranks <= 2 ? 4 << 20 : 512 << 10; }
int64_t stretch(int ranks) { return mailboxes::stretch_of(capacity(ranks), kLineBytes); }

int default_threads(const Site&, size_t bytes) { return bytes <= kGroup ? 512 : kMaxThreads; }

}  // namespace

const void* kernel(DType dtype, ReduceOp op, int ranks) {
  return of_any_group(float_kernel, integer_kernel, dtype, op, ranks);
}

void for_each_kernel(void (*f)(const void* kernel)) { for_each_reduction(kernel, f); }

size_t mailbox(const Mesh& mesh) { return 2 * mesh.size() * sizeof(Line) * stretch(mesh.size()); }

// Only where it was measured, and every value was right: that a line is seen whole is a property of
// the machine, see Note [Whole lines].
bool suits(const Site&, const Unit&) { return false; }

void run(Site& site, const Unit& unit, const Plan& plan) {
  mailboxes::run(site, unit, plan,
                 {Algorithm::kLines, kLineBytes, kLanes, stretch(site.ranks()), default_threads},
                 kernel(unit.dtype, unit.call().op, site.ranks()));
}

}  // namespace vt::collectives::gpu::lines
