// Rules of matrix products and of layers made of them.
#include <algorithm>

#include "sharding/rules.h"

namespace vt::sharding::rules {
namespace {

Plan two(Placement first, Placement second, Placement output) {
  Plan plan;
  plan.inputs[0] = first;
  plan.inputs[1] = second;
  plan.output = output;
  return plan;
}

}  // namespace

// [.., m, k] @ [.., k, n]. Cut along a batch, m or n: so is the result. Cut along k: every rank has
// a term. Where both are cut in ways that do not fit, the right one is gathered if it is a weight
// under a cut batch, else the left one.
Plan matmul(const Inputs& in) {
  const FabricTensor &a = *in[0], &b = *in[1];
  const auto whole = Placement::replicate(), terms = Placement::partial();
  const int a_batch = std::max(a.dim() - 2, 0), b_batch = std::max(b.dim() - 2, 0);
  const int batch = std::max(a_batch, b_batch);
  const int a_k = a.dim() - 1, b_k = b.dim() == 1 ? 0 : b.dim() - 2;
  const Placement pa = a.placement(), pb = b.placement();
  if (pa.is_sum() && pb.is_replicate()) return two(terms, whole, terms);
  if (pb.is_sum() && pa.is_replicate()) return two(whole, terms, terms);

  // A cut batch dimension, as one of the result: the other side is cut with it, or has none there.
  const auto along_batch = [&](const FabricTensor& x, int x_batch, const FabricTensor& y,
                               int y_batch, int dim, Placement* of_y) {
    const int at = dim + batch - x_batch, other = at - (batch - y_batch);
    const int64_t y_size = other >= 0 ? y.sizes()[other] : 1;
    if (x.sizes()[dim] == 1 && y_size != 1) return false;  // broadcast: every rank needs it
    *of_y = other >= 0 && y_size == x.sizes()[dim] ? Placement::shard(other) : whole;
    return true;
  };
  Placement other;
  if (pa.is_shard() && pa.dim() < a_batch && along_batch(a, a_batch, b, b_batch, pa.dim(), &other))
    return two(pa, other, Placement::shard(pa.dim() + batch - a_batch));
  if (pa.is_shard() && a.dim() > 1 && pa.dim() == a_batch)
    return two(pa, whole, Placement::shard(batch));
  if (pb.is_shard() && pb.dim() < b_batch && along_batch(b, b_batch, a, a_batch, pb.dim(), &other))
    return two(other, pb, Placement::shard(pb.dim() + batch - b_batch));
  if (pb.is_shard() && b.dim() > 1 && pb.dim() == b.dim() - 1)
    return two(whole, pb, Placement::shard(batch + (a.dim() > 1)));
  if (pa.is_shard(a_k) || pb.is_shard(b_k))
    return two(Placement::shard(a_k), Placement::shard(b_k), terms);
  return {};
}

// input [.., in], weight [out, in], bias [out]. A cut batch gathers the weight; else the weight
// decides: cut along `out` the result is cut, cut along `in` every rank has a term.
Plan linear(const Inputs& in) {
  const FabricTensor &input = *in[0], &weight = *in[1];
  const auto whole = Placement::replicate();
  const int last = input.dim() - 1;
  const Placement pi = input.placement(), pw = weight.placement();
  Plan plan;
  if (pi.is_shard() && pi.dim() < last) {
    plan.inputs[0] = plan.output = pi;
  } else if (pi.is_sum() && pw.is_replicate()) {
    plan = two(pi, whole, Placement::partial());
  } else if (pw.is_shard(0)) {
    plan = two(whole, pw, Placement::shard(last));
    plan.inputs[2] = Placement::shard(0);
  } else if (pw.is_shard(1) || pi.is_shard(last)) {
    plan = two(Placement::shard(last), Placement::shard(1), Placement::partial());
  }
  if (plan.output.is_partial()) plan.first_only = 1u << 2;
  return plan;
}

namespace {

// The dimension, a batch or the heads, along which all three are cut; none: -1. Groups of heads
// share a key: they are cut only where no group is torn.
int attention_cut(const Inputs& in) {
  const FabricTensor& query = *in[0];
  const int n = query.group().size();
  int cut = -1;
  for (size_t i = 0; i < 3 && cut < 0; ++i)
    if (in[i]->placement().is_shard() && in[i]->dim() == query.dim())
      cut = in[i]->placement().dim();
  if (cut < 0 || cut >= query.dim() - 2) return -1;
  bool alike = true, even = true;
  for (size_t i = 0; i < 3; ++i) {
    if (in[i]->dim() != query.dim()) return -1;
    alike &= in[i]->sizes()[cut] == query.sizes()[cut];
    even &= in[i]->sizes()[cut] % n == 0;
  }
  return alike || even ? cut : -1;
}

}  // namespace

Plan attention(const Inputs& in, double dropout) {
  const int cut = attention_cut(in);
  VT_CHECK(cut >= 0 || dropout == 0 || in.group().size() == 1, kNotImplemented, in.op, ": of ",
           *in[0], " with dropout_p ", dropout,
           " every copy would drop other elements; cut the batch or the heads with "
           "reshard(Shard(0))");
  Plan plan;
  if (cut < 0) return plan;
  plan.output = Placement::shard(cut);
  for (size_t i = 0; i < in.size(); ++i) {
    if (!in[i]->defined()) continue;
    const int at = cut - (in[0]->dim() - in[i]->dim());  // a mask may have fewer dimensions
    const bool is_shared = i == 3 && (at < 0 || in[i]->sizes()[at] == 1);
    if (!is_shared) plan.inputs[i] = Placement::shard(at);
  }
  return plan;
}

}  // namespace vt::sharding::rules
