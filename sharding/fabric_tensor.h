// A fabric tensor: one logical tensor on all ranks of a group, as local tensors and a placement.
// Knows no operators; the local tensors carry the history.
#pragma once
#include <array>
#include <mutex>
#include <span>
#include <vector>

#include "base/intrusive.h"
#include "base/pooled.h"
#include "base/scalar.h"
#include "sharding/group.h"
#include "sharding/placement.h"
#include "tensor/tensor.h"

namespace vt::sharding {

using Shards = std::array<Tensor, kMaxRanks>;

class FabricTensor {
 public:
  FabricTensor() = default;
  // `shards`: one tensor a rank, on its device. Checks nothing: see from_local_shards.
  FabricTensor(Group& group, Placement placement, Shards&& shards);

  bool defined() const { return static_cast<bool>(impl_); }
  Group& group() const { return *impl_->group; }
  Placement placement() const { return impl_->placement; }
  const Dims& sizes() const { return impl_->sizes; }  // of the logical tensor
  int dim() const { return impl_->sizes.size(); }
  int64_t numel() const { return impl_->sizes.product(); }
  DType dtype() const { return impl_->shards[0].dtype(); }
  bool same(const FabricTensor& other) const { return impl_ == other.impl_; }
  // A view of a tensor that had to be moved for it: what is written to it is not written there.
  bool is_apart() const { return impl_->apart; }
  void set_apart() const { impl_->apart = true; }

  // What the ranks hold. Of a replicated leaf these are the leaves that collect gradients: compute
  // with inputs() instead.
  std::span<const Tensor> shards() const {
    return {impl_->shards.data(), static_cast<size_t>(group().size())};
  }
  // What to compute with: the shards, except for a replicated leaf while operations are recorded.
  // Its gradient is the sum of what all copies get; the tensors given here take it on the way.
  std::span<const Tensor> inputs() const;

  bool requires_grad() const;
  bool is_leaf() const;
  void set_requires_grad(bool requires_grad) const;
  // After the memory of the shards was exchanged for that of another shape.
  void refresh_sizes() const;
  // Undefined where no gradient has arrived. Of a leaf it is placed like the tensor (Replicate for
  // a Partial one), of a result that retains it as Note [Gradients of placements] says.
  FabricTensor grad() const;
  void set_grad(const FabricTensor& grad) const;
  void retain_grad() const;

 private:
  struct Entries {
    Shards shards;
    GroupStreams streams;  // that their gradients are summed on
  };
  struct Impl : RefCounted<Impl>, Pooled<Impl> {
    static void destroy(Impl* impl) { delete impl; }
    Group* group;
    Placement placement;
    bool apart = false;
    Dims sizes;
    Shards shards;
    std::mutex mutex;
    std::unique_ptr<Entries> entries;  // see inputs()
  };
  Ref<Impl> impl_;
};

// "f32[8, 4] Shard(0) on [cpu:0, cpu:1]", as error messages show it.
std::ostream& operator<<(std::ostream& out, const FabricTensor& t);

// The right-hand side of an arithmetic operator.
struct FabricOperand {
  const FabricTensor* tensor = nullptr;
  Scalar scalar;

  FabricOperand(const FabricTensor& t) : tensor(&t) {}
  FabricOperand(Scalar s) : scalar(s) {}
  FabricOperand(double value) : scalar(value) {}
  FabricOperand(int value) : scalar(value) {}
  bool is_tensor() const { return tensor != nullptr; }
};

}  // namespace vt::sharding
