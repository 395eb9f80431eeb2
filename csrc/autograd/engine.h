// The backward engine: walks the graph from the roots, newest operation first. A graph on one
// device runs on the calling thread; one that spans devices runs on the devices' workers, all at
// the same time. There is no process-wide lock: backward passes of different threads do not meet.
#pragma once
#include <span>
#include <vector>

#include "autograd/node.h"

namespace vt {

struct BackwardOptions {
  bool keep_graph = false;    // retain_graph: the graph may be walked again
  bool create_graph = false;  // record the backward pass itself
};

// Accumulates into the leaves. grads[i] undefined means 1 for a one-element root.
void backward(std::span<const Tensor> roots, std::span<const Tensor> grads,
              BackwardOptions options);

// Gradients of the roots with respect to `inputs`, without touching any leaf. An input that is not
// reached is an error unless allow_unused, when its gradient is undefined.
std::vector<Tensor> gradients(std::span<const Tensor> roots, std::span<const Tensor> grads,
                              std::span<const Tensor> inputs, BackwardOptions options,
                              bool allow_unused);

}  // namespace vt
