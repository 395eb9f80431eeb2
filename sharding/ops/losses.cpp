// Losses over a cut batch, and cross-entropy over cut classes.
#include "autograd/grad_mode.h"
#include "ops/ops.h"
#include "sharding/ops.h"
#include "sharding/rules.h"

namespace vt::sharding {
namespace {

// How many targets count, on every rank, as a number of `dtype`.
FabricTensor counted(const FabricTensor& target, int64_t ignore_index, DType dtype) {
  const GradMode unrecorded(false);
  return to_dtype(sum(ne(target, Scalar(ignore_index)), {}, false, {}), dtype);
}

// Logits [N, C, ...] or [C], and class indices [N, ...] or []: the classes whole, the rest cut as
// one of the two is.
Plan rows_of_classes(const Inputs& in) {
  const FabricTensor &input = *in[0], &target = *in[1];
  const int classes = input.dim() == 1 ? 0 : 1;
  Plan plan;
  int cut = -1;  // a dimension of the target
  if (input.placement().is_shard() && input.placement().dim() != classes)
    cut = input.placement().dim() == 0 ? 0 : input.placement().dim() - 1;
  else if (target.placement().is_shard()) cut = target.placement().dim();
  if (cut < 0 || target.dim() != input.dim() - 1) return plan;
  plan.inputs[0] = Placement::shard(cut == 0 ? 0 : cut + 1);
  plan.inputs[1] = plan.output = Placement::shard(cut);
  return plan;
}

// Runs local(input, target, reduction) over a cut batch and puts the parts together.
template <class F>
FabricTensor over_batch(const char* op, const FabricTensor& input, const FabricTensor& target,
                        int64_t ignore_index, std::string_view reduction, F&& local) {
  const FabricTensor* const all[] = {&input, &target};
  const Inputs in{op, all};
  const Plan plan = rows_of_classes(in);
  const Brought input_at(in, plan, 0), target_at(in, plan, 1);
  const bool whole = plan.output.is_replicate() || reduction == "none";
  // A mean of means would be wrong where ranks count different numbers of rows.
  const std::string_view inner = whole || reduction != "mean" ? reduction : "sum";
  const FabricTensor loss =
      run(in.group(), whole ? plan.output : Placement::partial(),
          [&](int rank) { return local(input_at[rank], target_at[rank], inner); });
  return inner == reduction ? loss : true_divide(loss, counted(target, ignore_index, loss.dtype()));
}

// Every rank has some of the classes of all rows: the row's largest logit, the sum of exponents
// and the target's logit are put together from all ranks, the logits stay where they are.
FabricTensor over_classes(const FabricTensor& input, const FabricTensor& target,
                          int64_t ignore_index) {
  Group& group = input.group();
  const FabricTensor index = redistribute(target, {});
  const auto logits = input.inputs(), targets = index.inputs();
  const int64_t classes = input.sizes()[1];
  // Before anything moves, as an index out of range is an error.
  Shards place, inside;
  const FabricTensor counts = run(group, Placement::replicate(), [&](int rank) {
    const Range range = shard_range(classes, group.size(), rank);
    Tensor counted;
    std::tie(place[rank], inside[rank], counted) =
        vt::shard_index(targets[rank], range.start, range.length, classes, ignore_index);
    return counted;
  });
  FabricTensor largest;
  {
    const GradMode unrecorded(false);
    largest = redistribute(run(group, Placement::partial(ReduceOp::kMax),
                               [&](int rank) { return vt::amax(logits[rank], Dims{1}, true); }),
                           {});
  }
  const FabricTensor total =
      add(log(sum(exp(sub(input, largest, 1)), Dims{1}, false, {})), squeeze_dim(largest, 1), 1);
  const FabricTensor picked = run(group, Placement::partial(), [&](int rank) {
    const Tensor found = vt::gather(logits[rank], 1, vt::unsqueeze(place[rank], 1));
    return vt::where(inside[rank], vt::squeeze_dim(found, 1), Scalar(0));
  });
  return where(counts, sub(total, picked, 1), Scalar(0));
}

FabricTensor reduced(const FabricTensor& rows, std::string_view reduction) {
  if (reduction == "none") return rows;
  return reduction == "sum" ? sum(rows, {}, false, {}) : mean(rows, {}, false, {});
}

// Sums over ranks of 16-bit terms would overflow or lose what one kernel keeps in float32.
bool is_too_narrow(const FabricTensor& input, const FabricTensor& target) {
  return is_half(input.dtype()) && (input.placement().is_shard() || target.placement().is_shard());
}

void check_reduction(const char* op, std::string_view reduction) {
  VT_CHECK(reduction == "mean" || reduction == "sum" || reduction == "none", kValue, op, ": '",
           reduction, "' is not a valid value for reduction; use 'mean', 'sum' or 'none'");
}

}  // namespace

FabricTensor cross_entropy(const FabricTensor& input, const FabricTensor& target,
                           int64_t ignore_index, std::string_view reduction,
                           double label_smoothing) {
  check_reduction("cross_entropy", reduction);
  if (is_too_narrow(input, target))
    return to_dtype(cross_entropy(to_dtype(input, DType::kF32), target, ignore_index, reduction,
                                  label_smoothing),
                    input.dtype());
  if (input.placement().is_shard(1) && input.dim() == 2 && label_smoothing == 0 &&
      !target.placement().is_shard() && target.sizes() == Dims{input.sizes()[0]} &&
      target.dtype() == DType::kI64 && input.sizes()[1] > 0 &&
      input.sizes()[1] % input.group().size() == 0) {
    const FabricTensor rows = over_classes(input, target, ignore_index);
    if (reduction != "mean") return reduced(rows, reduction);
    return true_divide(sum(rows, {}, false, {}), counted(target, ignore_index, rows.dtype()));
  }
  return over_batch("cross_entropy", input, target, ignore_index, reduction,
                    [&](const Tensor& x, const Tensor& y, std::string_view how) {
                      return vt::cross_entropy(x, y, ignore_index, how, label_smoothing);
                    });
}

FabricTensor nll_loss(const FabricTensor& input, const FabricTensor& target, int64_t ignore_index,
                      std::string_view reduction) {
  check_reduction("nll_loss", reduction);
  if (is_too_narrow(input, target))
    return to_dtype(nll_loss(to_dtype(input, DType::kF32), target, ignore_index, reduction),
                    input.dtype());
  return over_batch("nll_loss", input, target, ignore_index, reduction,
                    [&](const Tensor& x, const Tensor& y, std::string_view how) {
                      return vt::nll_loss(x, y, ignore_index, how);
                    });
}

FabricTensor mse_loss(const FabricTensor& input, const FabricTensor& target,
                      std::string_view reduction) {
  check_reduction("mse_loss", reduction);
  return reduced(square(sub(input, target, 1)), reduction);
}

}  // namespace vt::sharding
