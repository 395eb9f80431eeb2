// Names, gradients and windows of placements.
#include "sharding/placement.h"

#include <algorithm>

#include "tensor/tensor.h"

namespace vt::sharding {

Placement Placement::in(int dims) const {
  if (!is_shard()) return *this;
  VT_CHECK(dims > 0, kValue, "placement: Shard(", dim_,
           ") needs a dimension to cut, and a 0-d tensor has none; use Replicate()");
  return shard(wrap_dim("Shard", dim_, dims));
}

std::ostream& operator<<(std::ostream& out, Placement placement) {
  if (placement.is_shard()) return out << "Shard(" << placement.dim() << ')';
  if (placement.is_partial()) return out << "Partial('" << name(placement.op()) << "')";
  return out << "Replicate()";
}

Placement gradient_placement(Placement of) {
  if (of.is_shard()) return of;
  return of.is_partial() ? Placement::replicate() : Placement::partial();
}

Range shard_range(int64_t size, int ranks, int rank) {
  const int64_t each = (size + ranks - 1) / ranks;
  const int64_t start = std::min(size, each * rank);
  return {start, std::min(size - start, each)};
}

}  // namespace vt::sharding
