// The one backward node of the fabric, and what is made of exchanges.
#include "sharding/redistribute.h"

#include <algorithm>

#include "autograd/variable.h"
#include "ops/ops.h"
#include "sharding/exchange.h"

namespace vt::sharding {
namespace {

// Joins the graphs of all ranks where a placement changes: its inputs and outputs are one local
// tensor a rank. See Note [Gradients of placements].
class RedistributeBackward final : public Node {
 public:
  // The gradient arrives placed as `from` and goes on as `to`.
  RedistributeBackward(const FabricTensor& input, Placement from, Placement to)
      : Node(input.group().device(0), input.group().size(), input.group().size()),
        group_(input.group()),
        sizes_(input.sizes()),
        dtype_(input.dtype()),
        from_(from),
        to_(to),
        streams_(group_) {
    for (int r = 0; r < group_.size(); ++r) set_edge(r, input.shards()[r]);
  }
  const char* name() const override { return "RedistributeBackward"; }
  void release_saved() override {}

  void apply(std::span<Tensor> grads, std::span<Tensor> out) override {
    const GroupStreams::Use use(streams_);
    const int n = group_.size();
    const auto given =
        std::count_if(grads.begin(), grads.end(), [](const Tensor& t) { return t.defined(); });
    Shards result;
    if (given == 1 && from_.is_partial() && to_.is_replicate() && !grad_enabled()) {
      const auto only =
          std::find_if(grads.begin(), grads.end(), [](const Tensor& t) { return t.defined(); });
      result = broadcast(group_, *only, static_cast<int>(only - grads.begin()));
    } else {
      Shards shards;
      for (int r = 0; r < n; ++r) {
        Dims sizes = sizes_;
        if (from_.is_shard()) sizes[from_.dim()] = shard_range(sizes[from_.dim()], n, r).length;
        shards[r] = grads[r].defined() ? grads[r] : zeros(sizes, dtype_, group_.device(r));
      }
      const FabricTensor moved = redistribute(FabricTensor(group_, from_, std::move(shards)), to_);
      std::copy(moved.shards().begin(), moved.shards().end(), result.begin());
    }
    for (int r = 0; r < n; ++r)
      if (wants(r)) out[r] = std::move(result[r]);
  }

 private:
  Group& group_;
  Dims sizes_;
  DType dtype_;
  Placement from_, to_;
  GroupStreams streams_;
};

void connect(const Group& group, Shards& shards, Ref<Node> node) {
  for (int r = 0; r < group.size(); ++r) {
    // A result may be an input itself, whose history must stay.
    shards[r] = alias(shards[r]);
    set_history(shards[r], node, static_cast<uint32_t>(r));
  }
}

// An average is a sum of shares.
FabricTensor shares(const FabricTensor& t) {
  Shards scaled;
  for (int r = 0; r < t.group().size(); ++r) scaled[r] = mul(t.inputs()[r], 1.0 / t.group().size());
  return FabricTensor(t.group(), Placement::partial(), std::move(scaled));
}

}  // namespace

FabricTensor redistribute(const FabricTensor& t, Placement wanted) {
  const Placement from = t.placement(), to = wanted.in(t.dim());
  if (from == to) return t;
  if (from.is_partial() && from.op() == ReduceOp::kAvg && is_float(t.dtype()))
    return redistribute(shares(t), to);
  VT_CHECK(!to.is_partial() || to.is_sum(), kValue, "redistribute: ", t, " to ", to,
           "; only Partial('sum') can be made of other placements");
  VT_CHECK(!from.is_partial() || !to.is_partial(), kValue, "redistribute: ", t, " to ", to,
           "; bring it to Replicate() first");
  const bool recorded = grad_enabled() && t.requires_grad();
  VT_CHECK(!recorded || !from.is_partial() || from.is_sum(), kNotImplemented, "redistribute: ", t,
           " has no gradient: only sums and averages have; detach() it, or reduce before with "
           "reshard(Replicate())");
  Shards inputs;
  std::copy(t.shards().begin(), t.shards().end(), inputs.begin());
  Shards result = exchange(t.group(), inputs, t.sizes(), from, to);
  if (recorded) {
    // A replicated leaf's shards are joined by the sum over its copies: not its gradient's terms.
    Placement gradient = gradient_placement(from);
    if (from.is_replicate() && t.is_leaf()) gradient = Placement::replicate();
    connect(t.group(), result,
            Ref<Node>::adopt(new RedistributeBackward(t, gradient_placement(to), gradient)));
  }
  return FabricTensor(t.group(), to, std::move(result));
}

FabricTensor reshard(const FabricTensor& t, Placement to) {
  const FabricTensor moved = redistribute(t, to);
  if (!t.placement().is_replicate() || moved.same(t)) return moved;
  // A window on the whole would keep the whole alive, and share its memory.
  Shards own;
  for (int r = 0; r < t.group().size(); ++r) own[r] = clone(moved.shards()[r]);
  return FabricTensor(t.group(), moved.placement(), std::move(own));
}

Shards enter_replicated(const FabricTensor& leaf) {
  Shards result;
  std::copy(leaf.shards().begin(), leaf.shards().end(), result.begin());
  connect(leaf.group(), result,
          Ref<Node>::adopt(
              new RedistributeBackward(leaf, Placement::partial(), Placement::replicate())));
  return result;
}

void fill_missing(const FabricTensor& t, Shards& shards) {
  for (int r = 0; r < t.group().size(); ++r)
    if (!shards[r].defined()) {
      const Tensor& like = t.shards()[r];
      shards[r] = zeros(like.sizes(), like.dtype(), like.device());
    }
}

FabricTensor distribute(const Tensor& t, Group& group, Placement wanted) {
  VT_CHECK(!wanted.is_partial() || wanted.is_sum(), kValue,
           "distribute: a tensor becomes "
           "Replicate(), Shard(dim) or Partial('sum'), not ",
           wanted);
  const Placement placement = wanted.in(t.dim());
  Shards shards;
  {
    const GradMode unrecorded(false);
    for (int r = 0; r < group.size(); ++r) {
      Tensor local = t;
      if (placement.is_shard()) {
        const Range range = shard_range(t.sizes()[placement.dim()], group.size(), r);
        local = narrow(t, placement.dim(), range.start, range.length);
      } else if (placement.is_partial() && r > 0) {
        local = zeros(t.sizes(), t.dtype(), group.device(r));
      }
      const Tensor moved = to_device(contiguous(local), group.device(r), false);
      // A tensor of its own, row-major, whatever t is.
      const bool own = !(moved.device() == t.device()) || (placement.is_partial() && r > 0);
      shards[r] = own ? alias(moved) : raw::clone(moved);
    }
  }
  FabricTensor result(group, placement, std::move(shards));
  if (t.requires_grad()) result.set_requires_grad(true);
  return result;
}

FabricTensor from_local_shards(std::vector<Tensor> given, Group& group, Placement wanted) {
  const int n = group.size();
  VT_CHECK(given.size() == static_cast<size_t>(n), kValue, "from_local_shards: the mesh ",
           group.mesh(), " has ", n, " ranks, got ", given.size(), " tensors; pass one a rank");
  for (int r = 0; r < n; ++r)
    VT_CHECK(given[r].defined(), kType, "from_local_shards: no tensor for rank ", r);
  const Placement placement = wanted.in(given[0].dim());
  Dims whole = given[0].sizes();
  if (placement.is_shard())
    for (int r = 1; r < n; ++r)
      if (given[r].dim() == given[0].dim())
        whole[placement.dim()] += given[r].sizes()[placement.dim()];
  for (int r = 0; r < n; ++r) {
    Dims expected = whole;
    if (placement.is_shard())
      expected[placement.dim()] = shard_range(whole[placement.dim()], n, r).length;
    VT_CHECK(given[r].device() == group.device(r), kValue, "from_local_shards: rank ", r, " is on ",
             group.device(r), ", its tensor is ", given[r], "; move it with .to()");
    VT_CHECK(given[r].dtype() == given[0].dtype() && given[r].sizes() == expected, kValue,
             "from_local_shards: rank ", r, " has ", given[r], ", expected ",
             short_name(given[0].dtype()), expected, " for ", placement, " of ", whole,
             "; shards are cut as distribute() cuts them: equal ones, and less at the end");
  }
  Shards shards;
  std::move(given.begin(), given.end(), shards.begin());
  return FabricTensor(group, placement, std::move(shards));
}

Tensor gather_to(const FabricTensor& t, int rank) {
  VT_CHECK(rank >= 0 && rank < t.group().size(), kIndex, "gather: rank ", rank,
           " is out of range, the mesh has ", t.group().size());
  const Device device = t.group().device(rank);
  if (!t.placement().is_shard()) return redistribute(t, {}).inputs()[rank];
  std::vector<Tensor> pieces;
  for (const Tensor& shard : t.shards()) pieces.push_back(to_device(shard, device, false));
  return cat(pieces, t.placement().dim());
}

}  // namespace vt::sharding
