// Layers that need more than a placement for each input.
#include <limits>

#include "ops/ops.h"
#include "sharding/ops.h"
#include "sharding/rules.h"

namespace vt::sharding {
// A weight cut along its rows: each rank looks up what it has, the others' rows are zero terms.
FabricTensor embedding(const FabricTensor& input, const FabricTensor& weight) {
  const FabricTensor* const all[] = {&input, &weight};
  const Inputs in{"embedding", all};
  Group& group = in.group();
  Plan plan;
  if (input.placement().is_shard()) {
    plan.inputs[0] = plan.output = input.placement();
  } else if (weight.placement().is_shard(1)) {
    plan.inputs[1] = weight.placement();
    plan.output = Placement::shard(input.dim());
  } else if (weight.placement().is_shard(0) && weight.sizes()[0] > 0) {
    plan.inputs[1] = weight.placement();
    plan.output = Placement::partial();
  }
  const Brought input_at(in, plan, 0), weight_at(in, plan, 1);
  if (!plan.output.is_partial())
    return run(group, plan.output,
               [&](int rank) { return vt::embedding(input_at[rank], weight_at[rank]); });
  return run(group, plan.output, [&](int rank) {
    const Tensor &index = input_at[rank], &rows = weight_at[rank];
    const Range range = shard_range(weight.sizes()[0], group.size(), rank);
    if (range.length == 0) {
      Dims sizes = index.sizes();
      sizes.push_back(rows.sizes()[1]);
      return zeros(sizes, rows.dtype(), rows.device());
    }
    const auto [place, inside, counted] =
        vt::shard_index(index, range.start, range.length, weight.sizes()[0], {});
    return vt::where(vt::unsqueeze(inside, -1), vt::embedding(place, rows), Scalar(0));
  });
}

// The same elements are dropped on all ranks that hold the same elements, others on each shard.
FabricTensor dropout(const FabricTensor& input, double p, bool training) {
  VT_CHECK(p >= 0 && p <= 1, kValue, "dropout: p must lie in [0, 1], got ", p);
  if (!training || p == 0) return input;
  Group& group = input.group();
  const Device first = group.device(0);
  const Tensor seed = randint_range(0, std::numeric_limits<int64_t>::max(), Dims{1}, {}, first);
  const FabricTensor at = input.placement().is_partial() && !input.placement().is_sum()
                              ? redistribute(input, {})
                              : input;
  const auto locals = at.inputs();
  return run(group, at.placement(), [&](int rank) {
    const Tensor own = at.placement().is_shard() ? vt::add(seed, Scalar(rank), 1) : seed;
    const Tensor begun = vt::cat({own, zeros(Dims{1}, DType::kI64, first)}, 0);
    return dropout_again(locals[rank], to_device(begun, group.device(rank), false), p);
  });
}

// In one product where the result is whole on its rank, else the terms are summed before gelu.
FabricTensor linear_gelu(const FabricTensor& input, const FabricTensor& weight,
                         const FabricTensor& bias) {
  const FabricTensor* const all[] = {&input, &weight, &bias};
  const Inputs in{"linear_gelu", all};
  const Plan plan = rules::linear(in);
  if (plan.output.is_partial()) return gelu(linear(input, weight, bias), "tanh");
  const Brought input_at(in, plan, 0), weight_at(in, plan, 1), bias_at(in, plan, 2);
  return run(in.group(), plan.output, [&](int rank) {
    return vt::linear_gelu(input_at[rank], weight_at[rank], bias_at[rank]);
  });
}

std::tuple<FabricTensor, FabricTensor> add_layer_norm(
    const FabricTensor& input, const FabricTensor& residual, const Dims& normalized_shape,
    const FabricTensor& weight, const FabricTensor& bias, double eps, double dropout_p) {
  if (dropout_p != 0)
    return add_layer_norm(dropout(input, dropout_p, true), residual, normalized_shape, weight, bias,
                          eps, 0);
  const FabricTensor* const all[] = {&input, &residual, &weight, &bias};
  const Inputs in{"add_layer_norm", all};
  const FabricTensor* const cut[] = {residual.placement().is_shard() ? &residual : &input};
  Plan plan = rules::rows({in.op, cut}, normalized_shape.size());
  plan.inputs[1] = plan.inputs[0];
  const Brought input_at(in, plan, 0), residual_at(in, plan, 1), weight_at(in, plan, 2),
      bias_at(in, plan, 3);
  return run(in.group(), plan.output, [&](int rank) {
    return vt::add_layer_norm(input_at[rank], residual_at[rank], normalized_shape, weight_at[rank],
                              bias_at[rank], eps, 0);
  });
}

std::tuple<FabricTensor, FabricTensor> add_rms_norm(const FabricTensor& input,
                                                    const FabricTensor& residual,
                                                    const Dims& normalized_shape,
                                                    const FabricTensor& weight,
                                                    std::optional<double> eps, double dropout_p) {
  if (dropout_p != 0)
    return add_rms_norm(dropout(input, dropout_p, true), residual, normalized_shape, weight, eps,
                        0);
  const FabricTensor* const all[] = {&input, &residual, &weight};
  const Inputs in{"add_rms_norm", all};
  const FabricTensor* const cut[] = {residual.placement().is_shard() ? &residual : &input};
  Plan plan = rules::rows({in.op, cut}, normalized_shape.size());
  plan.inputs[1] = plan.inputs[0];
  const Brought input_at(in, plan, 0), residual_at(in, plan, 1), weight_at(in, plan, 2);
  return run(in.group(), plan.output, [&](int rank) {
    return vt::add_rms_norm(input_at[rank], residual_at[rank], normalized_shape, weight_at[rank],
                            eps, 0);
  });
}

namespace {

// Two inputs are elementwise; halves of one need the last dimension whole.
template <class F>
FabricTensor gated_call(const char* op, const FabricTensor& input, const FabricTensor& up,
                        F&& local) {
  const FabricTensor* const all[] = {&input, &up};
  const Inputs in{op, all};
  const Plan plan = up.defined() ? rules::pointwise(in) : rules::rows(in, 1);
  const Brought input_at(in, plan, 0), up_at(in, plan, 1);
  return run(in.group(), plan.output, [&](int rank) { return local(input_at[rank], up_at[rank]); });
}

}  // namespace

FabricTensor swiglu(const FabricTensor& input, const FabricTensor& up) {
  return gated_call("swiglu", input, up,
                    [](const Tensor& x, const Tensor& y) { return vt::swiglu(x, y); });
}

FabricTensor geglu(const FabricTensor& input, const FabricTensor& up,
                   std::string_view approximate) {
  return gated_call("geglu", input, up,
                    [&](const Tensor& x, const Tensor& y) { return vt::geglu(x, y, approximate); });
}

}  // namespace vt::sharding
