// Changes of placement below autograd: what is moved between the ranks, and how it is packed.
#pragma once
#include "sharding/fabric_tensor.h"

namespace vt::sharding {

// The shards of the tensor of logical shape `sizes` that lies as `from`, placed as `to`; all of
// them defined. New tensors, or views of the old ones where nothing has to move.
Shards exchange(Group& group, const Shards& shards, const Dims& sizes, Placement from,
                Placement to);

// One tensor, the rank's own, to all others.
Shards broadcast(Group& group, const Tensor& t, int root);

}  // namespace vt::sharding
