// The two ways to call for a backward pass.
#include "autograd/engine.h"

#include "autograd/graph_task.h"

namespace vt {

void backward(std::span<const Tensor> roots, std::span<const Tensor> grads,
              BackwardOptions options) {
  GraphTask(roots, grads, {}, options).run();
}

std::vector<Tensor> gradients(std::span<const Tensor> roots, std::span<const Tensor> grads,
                              std::span<const Tensor> inputs, BackwardOptions options,
                              bool allow_unused) {
  GraphTask task(roots, grads, inputs, options);
  task.run();
  std::vector<Tensor> result = task.take_captures();
  for (size_t i = 0; i < result.size(); ++i)
    VT_CHECK(
        allow_unused || result[i].defined(), kRuntime,
        "grad: one of the differentiated tensors (input ", i, ", ", inputs[i],
        ") appears to not have been used in the graph; set allow_unused=True if this is desired");
  return result;
}

}  // namespace vt
