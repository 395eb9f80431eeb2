// Rules of operators that work along dimensions, and of views.
#include <algorithm>

#include "sharding/rules.h"

namespace vt::sharding::rules {
namespace {

int wrap(const Inputs& in, int64_t dim) { return wrap_dim(in.op, dim, in[0]->dim()); }

// The first input as `input`, the results as `output`.
Plan one(Placement input, Placement output) {
  Plan plan;
  plan.inputs[0] = input;
  plan.output = output;
  return plan;
}

Plan whole() { return {}; }

// Linear operators leave sums of terms as they are.
bool stays(const FabricTensor& t) { return t.placement().is_replicate() || t.placement().is_sum(); }
Plan stay(const FabricTensor& t) { return one(t.placement(), t.placement()); }

uint32_t mask(const Inputs& in, const std::optional<Dims>& dims) {
  if (!dims || dims->empty()) return ~0u;
  uint32_t bits = 0;
  for (int64_t d : *dims) bits |= 1u << wrap(in, d);
  return bits;
}

// Where the cut dimension of the first input is once the dimensions of the mask are gone.
Placement after(const Inputs& in, uint32_t gone, bool keepdim) {
  const int cut = in[0]->placement().dim();
  const int before = keepdim ? 0 : __builtin_popcount(gone & ((1u << cut) - 1));
  return Placement::shard(cut - before);
}

Plan reduce(const Inputs& in, uint32_t gone, bool keepdim) {
  const Placement placement = in[0]->placement();
  if (!placement.is_shard() || gone >> placement.dim() & 1) return whole();
  return one(placement, after(in, gone, keepdim));
}

}  // namespace

Plan along(const Inputs& in, int64_t dim) { return along(in, Dims{dim}); }

Plan along(const Inputs& in, const Dims& dims) {
  const Placement placement = in[0]->placement();
  if (!placement.is_shard() || mask(in, dims) >> placement.dim() & 1) return whole();
  return one(placement, placement);
}

Plan linear_along(const Inputs& in, int64_t dim) {
  return stays(*in[0]) ? stay(*in[0]) : along(in, dim);
}

Plan rows(const Inputs& in, int64_t count) {
  const Placement placement = in[0]->placement();
  if (!placement.is_shard() || placement.dim() >= in[0]->dim() - count) return whole();
  return one(placement, placement);
}

Plan batch(const Inputs& in, int64_t dims) {
  const Placement placement = in[0]->placement();
  return placement.is_shard(0) && in[0]->dim() == dims ? one(placement, placement) : whole();
}

Plan reduction(const Inputs& in, const std::optional<Dims>& dims, bool keepdim) {
  return reduce(in, mask(in, dims), keepdim);
}

Plan reduction(const Inputs& in, std::optional<int64_t> dim, bool keepdim) {
  return reduction(in, dim ? std::optional(Dims{*dim}) : std::nullopt, keepdim);
}

Plan sum(const Inputs& in, const std::optional<Dims>& dims, bool keepdim,
         std::optional<DType> dtype) {
  const bool rounds = dtype && !is_float(*dtype) && is_float(in[0]->dtype());  // not linear
  if (stays(*in[0])) return rounds ? whole() : stay(*in[0]);
  const uint32_t gone = mask(in, dims);
  const Placement placement = in[0]->placement();
  if (placement.is_shard() && gone >> placement.dim() & 1)
    return one(placement, Placement::partial());
  return reduce(in, gone, keepdim);
}

Plan transpose(const Inputs& in, int64_t dim0, int64_t dim1) {
  Dims order;
  for (int d = 0; d < in[0]->dim(); ++d) order.push_back(d);
  std::swap(order[wrap(in, dim0)], order[wrap(in, dim1)]);
  return permute(in, order);
}

Plan permute(const Inputs& in, const Dims& dims) {
  const Placement placement = in[0]->placement();
  if (stays(*in[0])) return stay(*in[0]);
  if (!placement.is_shard() || dims.size() != in[0]->dim()) return whole();
  for (int d = 0; d < dims.size(); ++d)
    if (wrap(in, dims[d]) == placement.dim()) return one(placement, Placement::shard(d));
  return whole();
}

Plan unsqueeze(const Inputs& in, int64_t dim) {
  const Placement placement = in[0]->placement();
  if (stays(*in[0])) return stay(*in[0]);
  if (!placement.is_shard()) return whole();
  const int at = wrap_dim(in.op, dim, in[0]->dim() + 1);
  return one(placement, Placement::shard(placement.dim() + (at <= placement.dim())));
}

Plan squeeze(const Inputs& in, std::optional<int64_t> dim) {
  if (stays(*in[0])) return stay(*in[0]);
  uint32_t gone = 0;
  for (int d = 0; d < in[0]->dim(); ++d)
    if (in[0]->sizes()[d] == 1 && (!dim || wrap(in, *dim) == d)) gone |= 1u << d;
  // A local tensor may have the size 1 where the logical one has not, and must keep it.
  const Placement placement = in[0]->placement();
  const int64_t each =
      placement.is_shard()
          ? shard_range(in[0]->sizes()[placement.dim()], in[0]->group().size(), 0).length
          : 0;
  const bool confused = each <= 1 && (!dim || wrap(in, *dim) == placement.dim());
  return confused ? whole() : reduce(in, gone, false);
}

Plan remove(const Inputs& in, int64_t dim) {
  return stays(*in[0]) ? stay(*in[0]) : reduce(in, 1u << wrap(in, dim), false);
}

Plan view(const Inputs& in, const Dims& given) {
  const FabricTensor& t = *in[0];
  const int n = t.group().size();
  Dims sizes = given;
  int64_t known = 1;
  int open = -1;
  for (int d = 0; d < sizes.size(); ++d) {
    VT_CHECK(sizes[d] != -1 || open < 0, kRuntime, in.op, ": only one dimension can be -1, got ",
             given);
    if (sizes[d] == -1) open = d;
    else known *= sizes[d];
  }
  if (open >= 0 && known > 0) sizes[open] = t.numel() / known;
  Plan plan = whole();
  plan.sizes = sizes;
  if (stays(t)) plan.inputs[0] = plan.output = t.placement();
  if (!t.placement().is_shard() || sizes.product() != t.numel() || t.numel() == 0) return plan;
  // The cut dimension stays cut where it is the outermost of what it is merged with or split into:
  // then each rank's elements are one run of the result's dimension too.
  const int cut = t.placement().dim();
  int64_t before = 1;
  for (int d = 0; d < cut; ++d) before *= t.sizes()[d];
  int64_t product = 1;
  for (int d = 0; d < sizes.size(); product *= sizes[d++]) {
    if (product != before || (sizes[d] == 1 && t.sizes()[cut] != 1)) continue;
    const bool even = t.sizes()[cut] % n == 0 && sizes[d] % n == 0;
    if (sizes[d] != t.sizes()[cut] && !even) return plan;
    plan.inputs[0] = t.placement();
    plan.output = Placement::shard(d);
    plan.cut = d;
    return plan;
  }
  return plan;
}

Plan expand(const Inputs& in, const Dims& sizes) {
  const FabricTensor& t = *in[0];
  const Placement placement = t.placement();
  const int more = sizes.size() - t.dim();
  Plan plan = whole();
  plan.sizes = sizes;
  if (stays(t)) plan.inputs[0] = plan.output = placement;
  if (!placement.is_shard() || more < 0) return plan;
  const int64_t wanted = sizes[placement.dim() + more];
  if (wanted != -1 && wanted != t.sizes()[placement.dim()]) return plan;
  plan.inputs[0] = placement;
  plan.output = Placement::shard(placement.dim() + more);
  plan.sizes[placement.dim() + more] = -1;
  return plan;
}

Plan cat(const Inputs& in, int64_t dim) {
  const int at = wrap(in, dim);
  if (std::all_of(in.all.begin(), in.all.end(),
                  [](const FabricTensor* t) { return t->placement().is_sum(); }))
    return one(Placement::partial(), Placement::partial());
  for (const FabricTensor* t : in.all) {
    const Placement placement = t->placement();
    if (placement.is_shard() && placement.dim() != at) return one(placement, placement);
  }
  return whole();
}

Plan aligned(const Inputs& in, int64_t dim) {
  const int at = wrap(in, dim);
  Plan plan;
  for (const FabricTensor* t : in.all) {
    const Placement placement = t->placement();
    if (!placement.is_shard() || placement.dim() == at) continue;
    // An index may be smaller than the tensor in other dimensions: they are cut alike only if
    // equal.
    const bool equal = std::all_of(in.all.begin(), in.all.end(), [&](const FabricTensor* other) {
      return other->dim() == t->dim() &&
             other->sizes()[placement.dim()] == t->sizes()[placement.dim()];
    });
    if (!equal) continue;
    for (size_t i = 0; i < in.size(); ++i) plan.inputs[i] = placement;
    plan.output = placement;
    break;
  }
  return plan;
}

}  // namespace vt::sharding::rules
