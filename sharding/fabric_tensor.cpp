// Sizes, leaves and gradients of fabric tensors.
#include "sharding/fabric_tensor.h"

#include <algorithm>

#include "autograd/variable.h"
#include "sharding/redistribute.h"

namespace vt::sharding {

FabricTensor::FabricTensor(Group& group, Placement placement, Shards&& shards)
    : impl_(Ref<Impl>::adopt(new Impl)) {
  impl_->group = &group;
  impl_->placement = placement;
  impl_->shards = std::move(shards);
  refresh_sizes();
}

void FabricTensor::refresh_sizes() const {
  const Placement placement = impl_->placement;
  impl_->sizes = impl_->shards[0].sizes();
  if (placement.is_shard())
    for (int r = 1; r < group().size(); ++r)
      impl_->sizes[placement.dim()] += impl_->shards[r].sizes()[placement.dim()];
}

std::span<const Tensor> FabricTensor::inputs() const {
  if (!impl_->placement.is_replicate() || !grad_enabled() || !impl_->shards[0].requires_grad() ||
      !vt::is_leaf(impl_->shards[0]))
    return shards();
  std::lock_guard lock(impl_->mutex);
  // An optimizer may have moved the leaves to other memory since, and a captured step runs on
  // streams of its own.
  const size_t n = shards().size();
  bool current = impl_->entries && impl_->entries->streams.are_current();
  for (size_t r = 0; current && r < n; ++r) {
    const Tensor &entry = impl_->entries->shards[r], &leaf = impl_->shards[r];
    current = entry.data() == leaf.data() && entry.dtype() == leaf.dtype();
  }
  if (!current) impl_->entries.reset(new Entries{enter_replicated(*this), GroupStreams(group())});
  return {impl_->entries->shards.data(), n};
}

bool FabricTensor::requires_grad() const {
  return std::any_of(shards().begin(), shards().end(),
                     [](const Tensor& t) { return t.requires_grad(); });
}

bool FabricTensor::is_leaf() const {
  return std::all_of(shards().begin(), shards().end(),
                     [](const Tensor& t) { return vt::is_leaf(t); });
}

void FabricTensor::set_requires_grad(bool requires_grad) const {
  for (const Tensor& t : shards()) vt::set_requires_grad(t, requires_grad);
  std::lock_guard lock(impl_->mutex);
  impl_->entries.reset();
}

FabricTensor FabricTensor::grad() const {
  Shards grads;
  bool any = false;
  for (int r = 0; r < group().size(); ++r) {
    grads[r] = grad_of(impl_->shards[r]);
    any |= grads[r].defined();
  }
  if (!any) return {};
  fill_missing(*this, grads);
  const Placement of_result = gradient_placement(placement());
  // A replicated leaf's gradient has been summed on its way here.
  return FabricTensor(group(), is_leaf() && of_result.is_partial() ? placement() : of_result,
                      std::move(grads));
}

void FabricTensor::set_grad(const FabricTensor& grad) const {
  if (!grad.defined()) {
    for (const Tensor& t : shards()) vt::set_grad(t, {});
    return;
  }
  const Placement wanted = placement().is_shard() ? placement() : Placement::replicate();
  VT_CHECK(is_leaf() && &grad.group() == &group() && grad.sizes() == sizes() &&
               grad.placement() == wanted,
           kRuntime, "grad: the gradient of the leaf ", *this, " must be ", sizes(), ' ', wanted,
           " on the same mesh, got ", grad);
  for (int r = 0; r < group().size(); ++r) vt::set_grad(impl_->shards[r], grad.shards()[r]);
}

void FabricTensor::retain_grad() const {
  for (const Tensor& t : shards())
    if (t.requires_grad()) vt::retain_grad(t);
}

std::ostream& operator<<(std::ostream& out, const FabricTensor& t) {
  if (!t.defined()) return out << "no tensor";
  return out << short_name(t.dtype()) << t.sizes() << ' ' << t.placement() << " on "
             << t.group().mesh();
}

}  // namespace vt::sharding
