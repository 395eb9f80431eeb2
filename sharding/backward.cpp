// Where local passes start and end; see Note [Gradients of placements].
#include "sharding/backward.h"

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "ops/ops.h"
#include "sharding/redistribute.h"

namespace vt::sharding {
namespace {

FabricTensor one(const FabricTensor& root) {
  VT_CHECK(root.numel() == 1, kRuntime,
           "backward: grad can be implicitly created only for scalar outputs, got ", root,
           "; pass a gradient of that shape");
  Shards ones;
  for (int r = 0; r < root.group().size(); ++r) {
    const Tensor& local = root.shards()[r];
    ones[r] = full(local.sizes(), Scalar(1), local.dtype(), local.device());
  }
  const Placement placement =
      root.placement().is_shard() ? root.placement() : Placement::replicate();
  return FabricTensor(root.group(), placement, std::move(ones));
}

// The local tensors that a pass starts at.
struct Start {
  std::vector<Tensor> roots, gradients;

  Start(std::span<const FabricTensor> all, std::span<const FabricTensor> given, bool create_graph) {
    for (size_t i = 0; i < all.size(); ++i)
      add(all[i], i < given.size() ? given[i] : FabricTensor(), create_graph);
  }

 private:
  void add(const FabricTensor& root, const FabricTensor& given, bool create_graph) {
    VT_CHECK(root.requires_grad(), kRuntime, "backward: ", root,
             " does not require grad and does not have a grad_fn");
    FabricTensor gradient = given.defined() ? given : one(root);
    VT_CHECK(&gradient.group() == &root.group() && gradient.sizes() == root.sizes(), kRuntime,
             "backward: gradient ", gradient, " does not match its tensor ", root);
    // Each copy of a replicated root gets a term of the gradient: the first one all of it.
    const bool first_only = root.placement().is_replicate() && gradient.placement().is_replicate();
    if (!first_only) {
      const GradMode mode(create_graph);
      gradient = redistribute(gradient, gradient_placement(root.placement()));
    }
    for (int r = 0; r < (first_only ? 1 : root.group().size()); ++r) {
      const Tensor& local = root.inputs()[r];
      if (!local.requires_grad()) continue;
      roots.push_back(local);
      gradients.push_back(gradient.inputs()[r]);
    }
  }
};

}  // namespace

void backward(std::span<const FabricTensor> roots, std::span<const FabricTensor> gradients,
              PassOptions options) {
  const Start start(roots, gradients, options.create_graph);
  vt::backward(start.roots, start.gradients, {options.keep_graph, options.create_graph});
}

std::vector<FabricTensor> gradients(std::span<const FabricTensor> roots,
                                    std::span<const FabricTensor> given,
                                    std::span<const FabricTensor> inputs, PassOptions options,
                                    bool allow_unused) {
  const Start start(roots, given, options.create_graph);
  std::vector<Tensor> locals;
  for (const FabricTensor& input : inputs)
    locals.insert(locals.end(), input.shards().begin(), input.shards().end());
  const std::vector<Tensor> found =
      vt::gradients(start.roots, start.gradients, locals,
                    {options.keep_graph, options.create_graph}, /*allow_unused=*/true);
  const GradMode mode(options.create_graph);
  std::vector<FabricTensor> results;
  auto next = found.begin();
  for (const FabricTensor& input : inputs) {
    Shards shards;
    bool reached = false;
    for (int r = 0; r < input.group().size(); ++r) {
      shards[r] = *next++;
      reached |= shards[r].defined();
    }
    VT_CHECK(reached || allow_unused, kRuntime, "grad: ", input,
             " appears to not have been used in the graph; set allow_unused=True if this is "
             "desired");
    if (!reached) {
      results.emplace_back();
      continue;
    }
    fill_missing(input, shards);
    // What the copies of a replicated leaf get has been summed on the way.
    const bool summed = input.placement().is_replicate() && input.is_leaf();
    const Placement placement = summed ? Placement() : gradient_placement(input.placement());
    const FabricTensor gradient(input.group(), placement, std::move(shards));
    results.push_back(placement.is_partial() ? redistribute(gradient, {}) : gradient);
  }
  return results;
}

}  // namespace vt::sharding
