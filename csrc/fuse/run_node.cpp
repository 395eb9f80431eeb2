// From a node's windows back to the arguments of its kernel.
#include "fuse/run_node.h"

#include "fuse/functors.h"
#include "fuse/recorder.h"

namespace vt::fuse {
namespace {

ElementwisePlan plan_of(const Node& node) {
  ElementwisePlan plan;
  plan.device = node.device;
  plan.numel = node.space.numel();
  plan.dense = node.space.ndim <= 1;
  plan.ndim = std::max(node.space.ndim, 1);
  plan.sizes[0] = 1;
  for (int d = 0; d < node.space.ndim; ++d) plan.sizes[d] = node.space.sizes[d];
  auto add = [&](const Window& window) {
    const int operand = plan.operands++;
    plan.data[operand] = window.data;
    plan.strides[operand][0] = 0;
    for (int d = 0; d < node.space.ndim; ++d) plan.strides[operand][d] = window.strides[d];
    plan.dense = plan.dense && (node.space.ndim == 0 ||
                                window.strides[0] == static_cast<int64_t>(item_size(window.dtype)));
  };
  add(node.out);
  for (int i = 0; i < node.inputs; ++i)
    if (i != node.scalar_at) add(node.in[i]);
  return plan;
}

// The window from dimension `first` of the space on, as a tensor.
Tensor tensor_of(const Node& node, const Window& window, int first = 0) {
  Dims sizes, strides;
  int64_t reach = 1;
  const auto item = static_cast<int64_t>(item_size(window.dtype));
  for (int d = node.space.ndim - 1; d >= first; --d) {
    sizes.push_back(node.space.sizes[d]);
    strides.push_back(window.strides[d] / item);
    reach += (node.space.sizes[d] - 1) * (window.strides[d] / item);
  }
  auto storage = Storage::wrap(node.device, window.data, static_cast<size_t>(reach * item), {});
  return Tensor(
      Ref<TensorImpl>::adopt(new TensorImpl(std::move(storage), sizes, strides, 0, window.dtype)));
}

}  // namespace

void run_node(const Node& node) {
  const Kernels& kernels = actual(node.device);
  switch (node.kind) {
    case NodeKind::kPointwise:
      return kernels.pointwise[static_cast<int>(node.op)](plan_of(node), node.dtype, node.params,
                                                          node.scalar_at);
    case NodeKind::kConvert:
      return kernels.copy(tensor_of(node, node.out), tensor_of(node, node.in[0]));
    case NodeKind::kFill: return kernels.fill(tensor_of(node, node.out), node.params[0]);
    case NodeKind::kReduce:
      return kernels.reduce(tensor_of(node, node.out, 1), tensor_of(node, node.in[0]), node.reduce,
                            1u << (node.space.ndim - 1));
    case NodeKind::kCall: return node.run();
  }
}

}  // namespace vt::fuse
