// Means, norms and products made of other operators over fabric tensors.
#include "ops/ops.h"
#include "sharding/ops.h"
#include "sharding/rules.h"

namespace vt::sharding {

// Where a cut dimension is averaged over, every rank has the share of its own elements.
FabricTensor mean(const FabricTensor& self, const std::optional<Dims>& dim, bool keepdim,
                  std::optional<DType> dtype) {
  const FabricTensor* const all[] = {&self};
  const Inputs in{"mean", all};
  const Plan plan = self.numel() > 0 ? rules::sum(in, dim, keepdim, dtype) : Plan{};
  const Brought self_at(in, plan, 0);
  const bool shares = plan.inputs[0].is_shard() && plan.output.is_partial();
  return run(in.group(), plan.output, [&](int rank) {
    const Tensor& local = self_at[rank];
    if (!shares) return vt::mean(local, dim, keepdim, dtype);
    const int cut = plan.inputs[0].dim();
    if (local.sizes()[cut] == 0) return vt::sum(local, dim, keepdim, dtype);
    const double share =
        static_cast<double>(local.sizes()[cut]) / static_cast<double>(self.sizes()[cut]);
    return vt::mul(vt::mean(local, dim, keepdim, dtype), share);
  });
}

FabricTensor norm(const FabricTensor& self) {
  if (!self.placement().is_shard()) {
    const FabricTensor whole = redistribute(self, {});
    const auto locals = whole.inputs();
    return run(self.group(), {}, [&](int rank) { return vt::norm(locals[rank]); });
  }
  // The square of a 16-bit norm may not be a number of its type.
  const DType wide = is_half(self.dtype()) ? DType::kF32 : self.dtype();
  const auto locals = self.inputs();
  const FabricTensor squares = run(self.group(), Placement::partial(), [&](int rank) {
    return vt::square(to_dtype(vt::norm(locals[rank]), wide));
  });
  return to_dtype(sqrt(squares), self.dtype());
}

FabricTensor addmm(const FabricTensor& self, const FabricTensor& mat1, const FabricTensor& mat2,
                   Scalar beta, Scalar alpha) {
  return add(beta.equals(1) ? self : mul(self, beta), mm(mat1, mat2), alpha);
}

FabricTensor outer(const FabricTensor& self, const FabricTensor& vec2) {
  VT_CHECK(self.dim() == 1 && vec2.dim() == 1, kRuntime, "outer: 1D tensors expected, got ", self,
           " and ", vec2);
  return mul(unsqueeze(self, 1), vec2);
}

}  // namespace vt::sharding
