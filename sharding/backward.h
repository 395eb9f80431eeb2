// Backward passes over the graphs of all ranks at once.
#pragma once
#include "sharding/fabric_tensor.h"

namespace vt::sharding {

struct PassOptions {
  bool keep_graph = false;    // retain_graph: the graph may be walked again
  bool create_graph = false;  // record the backward pass itself
};

// Adds the gradients of `roots` to the leaves. gradients[i] starts at roots[i]; undefined, it is 1
// for a root of one element.
void backward(std::span<const FabricTensor> roots, std::span<const FabricTensor> gradients,
              PassOptions options);

// The gradients with respect to `inputs`, placed like them (Replicate for a Partial one), without
// touching any leaf. An input that is not reached is an error unless allow_unused, when its
// gradient is undefined.
std::vector<FabricTensor> gradients(std::span<const FabricTensor> roots,
                                    std::span<const FabricTensor> gradients,
                                    std::span<const FabricTensor> inputs, PassOptions options,
                                    bool allow_unused);

}  // namespace vt::sharding
