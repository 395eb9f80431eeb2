// The table of kernels that records: elementwise operators, conversions and fills become nodes.
#include "fuse/functors.h"
#include "fuse/record_calls.h"
#include "fuse/recorder.h"

#include "device/deferred.h"

namespace vt::fuse {
namespace {

Window window_of(const ElementwisePlan& plan, int operand, DType dtype) {
  Window window{plan.data[operand], dtype, {}};
  if (plan.dense) {
    window.strides[0] = static_cast<int64_t>(item_size(dtype));
    return window;
  }
  for (int d = 0, at = 0; d < plan.ndim; ++d)
    if (plan.sizes[d] != 1) window.strides[at++] = plan.strides[operand][d];
  return window;
}

Space space_of(const ElementwisePlan& plan) {
  Space space;
  if (plan.dense) {
    if (plan.numel != 1) space.sizes[space.ndim++] = plan.numel;
    return space;
  }
  for (int d = 0; d < plan.ndim; ++d)
    if (plan.sizes[d] != 1) space.sizes[space.ndim++] = plan.sizes[d];
  return space;
}

template <size_t kOp>
void record_pointwise(const ElementwisePlan& plan, DType dtype, const Scalar* params,
                      int scalar_at) {
  const auto launch = actual(plan.device).pointwise[kOp];
  if (!recorder().here() || plan.numel == 0) {
    run_deferred();
    return launch(plan, dtype, params, scalar_at);
  }
  const FunctorFacts& facts = functor_facts(static_cast<PointwiseOp>(kOp));
  Node node(NodeKind::kPointwise, facts.op, plan.device);
  node.op = static_cast<PointwiseOp>(kOp);
  node.dtype = dtype;
  node.space = space_of(plan);
  node.out = window_of(plan, 0, facts.predicate ? DType::kBool : dtype);
  node.inputs = facts.inputs;
  node.scalar_at = scalar_at;
  for (int i = 0, operand = 1; i < facts.inputs; ++i)
    if (i != scalar_at)
      node.in[i] = window_of(plan, operand++, facts.bool_inputs >> i & 1 ? DType::kBool : dtype);
  node.param_count = facts.scalars + (scalar_at == kNoScalar ? 0 : 1);
  std::copy_n(params, node.param_count, node.params);
  recorder().add(std::move(node));
}

void record_copy(const Tensor& dst, const Tensor& src) {
  const Device device = dst.device();
  const Tensor* inputs[] = {&src};
  if (recorder().here() && recorder().enabled(kCasts) && dst.numel() > 0) {
    const ElementwisePlan plan = plan_elementwise(dst, inputs);
    Node node(NodeKind::kConvert, dst.dtype() == src.dtype() ? "copy" : "convert", device);
    node.dtype = src.dtype();
    node.space = space_of(plan);
    node.out = window_of(plan, 0, dst.dtype());
    node.in[0] = window_of(plan, 1, src.dtype());
    node.inputs = 1;
    // A transposing copy has a kernel of its own, which a chain cannot match.
    const int64_t step = node.in[0].strides[0];
    if (node.space.ndim == 0 || step == 0 || step == static_cast<int64_t>(src.item_size())) {
      return recorder().add(std::move(node));
    }
  }
  run_deferred();
  recorder().pass_by("copy");
  actual(device).copy(dst, src);
}

void record_fill(const Tensor& dst, Scalar value) {
  const Device device = dst.device();
  if (!recorder().here() || !recorder().enabled(kFills) || dst.numel() == 0) {
    run_deferred();
    recorder().pass_by("fill");
    return actual(device).fill(dst, value);
  }
  const ElementwisePlan plan = plan_elementwise(dst, {});
  Node node(NodeKind::kFill, "fill", device);
  node.dtype = dst.dtype();
  node.space = space_of(plan);
  node.out = window_of(plan, 0, dst.dtype());
  node.params[0] = value;
  node.param_count = 1;
  recorder().add(std::move(node));
}

template <size_t... kOps>
void fill_pointwise(Kernels& table, std::index_sequence<kOps...>) {
  ((table.pointwise[kOps] = &record_pointwise<kOps>), ...);
}

}  // namespace

const Kernels& recording_table() {
  static const Kernels instance = [] {
    Kernels table{};
    fill_pointwise(table, std::make_index_sequence<kPointwiseOps>{});
    fill_structured(table);
    fill_calls(table);
    table.copy = &record_copy;
    table.fill = &record_fill;
    return table;
  }();
  return instance;
}

namespace {

// Made while the library is loaded, before there are threads: those that meet it through g_stand_in
// in the middle of a recording, by a plain load, find it whole.
[[maybe_unused]] const Kernels& g_made_at_load = recording_table();

}  // namespace
}  // namespace vt::fuse
