// Changes of placement, with their gradients.
#pragma once
#include "sharding/fabric_tensor.h"

namespace vt::sharding {

// The same logical tensor placed otherwise; `t` itself if it is placed so. Recorded for backward
// where a gradient is wanted. ValueError for a placement that the tensor cannot have.
FabricTensor redistribute(const FabricTensor& t, Placement to);

// What users call: the same, in memory of its own.
FabricTensor reshard(const FabricTensor& t, Placement to);

// Aliases of the shards of a replicated leaf whose gradients are summed over the ranks before they
// reach the leaf, once a backward pass.
Shards enter_replicated(const FabricTensor& leaf);

// Zeros for undefined tensors of `shards`, shaped like t's.
void fill_missing(const FabricTensor& t, Shards& shards);

// A tensor of one device cut or copied onto the ranks, without history; of a Partial the first
// rank has the values and the others zeros. A leaf that requires a gradient if `t` requires one.
FabricTensor distribute(const Tensor& t, Group& group, Placement placement);

// The local tensors of all ranks as one; ValueError, TypeError where they do not fit together.
FabricTensor from_local_shards(std::vector<Tensor> shards, Group& group, Placement placement);

// The whole tensor on the device of one rank, recorded for backward.
Tensor gather_to(const FabricTensor& t, int rank);

}  // namespace vt::sharding
