// Rules of elementwise operators, and of those without a rule.
#include <algorithm>

#include "sharding/rules.h"

namespace vt::sharding {

Group& Inputs::group() const {
  Group* group = nullptr;
  const FabricTensor* first = nullptr;
  for (const FabricTensor* each : all) {
    if (!each || !each->defined()) continue;
    if (!group) {
      group = &each->group();
      first = each;
    }
    VT_CHECK(&each->group() == group, kFabric, op, ": expected all tensors on one mesh, got ",
             *first, " and ", *each, "; bring one over with full_tensor() and distribute()");
  }
  VT_CHECK(group, kType, op, ": no fabric tensor given");
  return *group;
}

namespace rules {
namespace {

std::string list(const Inputs& in) {
  std::string text;
  for (const FabricTensor* each : in.all)
    if (each && each->defined()) text += str(text.empty() ? "" : ", ", *each);
  return text;
}

bool is_tensor(const FabricTensor* t) { return t && t->defined(); }

// The size that a tensor brings to dimension `d`, counted from the last one, of the result.
int64_t size_from_end(const FabricTensor& t, int d) {
  return d < t.dim() ? t.sizes()[t.dim() - 1 - d] : 1;
}

}  // namespace

Plan pointwise(const Inputs& in) {
  int dims = 0, cut = -1;  // cut: the result's dimension, counted from the last one
  for (const FabricTensor* t : in.all)
    if (is_tensor(t)) dims = std::max(dims, t->dim());
  const auto result_size = [&](int d) {
    int64_t size = 1;
    for (const FabricTensor* t : in.all)
      if (is_tensor(t) && size_from_end(*t, d) != 1) size = size_from_end(*t, d);
    return size;
  };
  for (const FabricTensor* t : in.all) {
    if (cut >= 0 || !is_tensor(t) || !t->placement().is_shard()) continue;
    const int d = t->dim() - 1 - t->placement().dim();
    // Else it is broadcast along that dimension, and every rank needs it.
    if (size_from_end(*t, d) == result_size(d)) cut = d;
  }
  if (cut < 0) return {};
  Plan plan;
  plan.output = Placement::shard(dims - 1 - cut);
  for (size_t i = 0; i < in.size(); ++i)
    if (is_tensor(in[i]) && cut < in[i]->dim() && size_from_end(*in[i], cut) == result_size(cut))
      plan.inputs[i] = Placement::shard(in[i]->dim() - 1 - cut);
  return plan;
}

namespace {

// Everything as it is, the result a sum of terms.
Plan terms(const Inputs& in) {
  Plan plan;
  for (size_t i = 0; i < in.size(); ++i)
    if (is_tensor(in[i])) plan.inputs[i] = in[i]->placement();
  plan.output = Placement::partial();
  return plan;
}

bool is_sum(const FabricTensor* t) { return is_tensor(t) && t->placement().is_sum(); }
bool is_whole(const FabricTensor* t) { return !is_tensor(t) || t->placement().is_replicate(); }

}  // namespace

Plan additive(const Inputs& in) {
  return std::all_of(in.all.begin(), in.all.end(), is_sum) ? terms(in) : pointwise(in);
}

Plan product(const Inputs& in) {
  const bool one = (is_sum(in[0]) && is_whole(in[1])) || (is_whole(in[0]) && is_sum(in[1]));
  return one ? terms(in) : pointwise(in);
}

Plan linear_in_first(const Inputs& in) {
  const bool others = std::all_of(in.all.begin() + 1, in.all.end(), is_whole);
  return is_sum(in[0]) && others ? terms(in) : pointwise(in);
}

Plan inplace(const Inputs& in) {
  const FabricTensor& self = *in[0];
  const Placement placement = self.placement();
  VT_CHECK(!placement.is_partial(), kNotImplemented, in.op, ": ", self,
           " cannot be changed in place, it is the sum of what the ranks hold; "
           "reshard(Replicate()) first");
  Plan plan;
  plan.inputs[0] = plan.output = placement;
  for (size_t i = 1; i < in.size(); ++i) {
    if (!placement.is_shard() || !is_tensor(in[i])) continue;
    const int d = placement.dim() - (self.dim() - in[i]->dim());
    if (d >= 0 && in[i]->sizes()[d] == self.sizes()[placement.dim()])
      plan.inputs[i] = Placement::shard(d);
  }
  return plan;
}

Plan same(const Inputs& in) {
  Plan plan;
  plan.inputs[0] = plan.output = in[0]->placement();
  return plan;
}

Plan like(const Inputs& in) {
  Plan plan = same(in);
  if (plan.output.is_partial()) plan.output = Placement::replicate();
  return plan;
}

Plan replicated(const Inputs& in) {
  for (const FabricTensor* t : in.all)
    VT_CHECK(is_whole(t), kNotImplemented, in.op, ": has no sharding rule for ", list(in),
             "; reshard(Replicate()) runs it whole on every rank, and to_local_shards() with "
             "from_local_shards() run it on the shards");
  return {};
}

Plan random(const Inputs& in) {
  fail(
      ErrorKind::kNotImplemented, in.op, ": has no sharding rule (", list(in),
      "), every rank would draw numbers of its own; make the tensor on one device and distribute() "
      "it");
}

}  // namespace rules
}  // namespace vt::sharding
