// Gradient accumulation: the first gradient is taken over, not copied, where nobody else holds it.
#include "autograd/accumulate.h"

#include "autograd/between_streams.h"
#include "autograd/grad_mode.h"
#include "autograd/leaf_log.h"
#include "ops/ops.h"

namespace vt {
namespace {

// Nobody but the engine's buffer can see this tensor's memory.
bool is_exclusive(const Tensor& t) {
  return t.impl()->use_count() == 1 && t.storage().use_count() == 1 && t.is_dense();
}

bool same_memory(const Tensor& a, const Tensor& b) {
  return a.data() == b.data() && a.sizes() == b.sizes() && a.strides() == b.strides() &&
         a.dtype() == b.dtype();
}

}  // namespace

AccumulateGrad::AccumulateGrad(const Dims& sizes, DType dtype, Device device)
    : Node(device, 1, 0), sizes_(sizes), dtype_(dtype) {}

void AccumulateGrad::apply(std::span<Tensor> grads, std::span<Tensor>) {
  Tensor replaced;  // goes after the lock: its history may end in Python, which waits for the GIL
  {
    std::lock_guard lock(mutex_);
    if (any_capture()) LeafLog::note(this, grad_, true);
    follow_last_writer();
    Tensor& incoming = grads[0];
    if (borrower_ != nullptr && same_memory(incoming, place_)) {  // see gradient_place.h
      // Another pass may have come to an end meanwhile.
      if (adds_) {
        take_aside();
        if (!grad_.defined()) grad_ = place_;  // a hook dropped it meanwhile
      } else {
        if (grad_.defined()) raw::add_(place_, grad_, 1);
        grad_ = place_;
      }
      borrower_ = nullptr;
    } else if (place_.defined()) {
      if (borrower_ != nullptr && adds_) {  // another thread writes there
        if (aside_.defined()) raw::add_(aside_, incoming, 1);
        else aside_ = raw::clone(incoming);
      } else if (grad_.defined()) {
        raw::add_(grad_, incoming, 1);
      } else if (borrower_ != nullptr) {
        grad_ = raw::clone(incoming);
      } else {
        raw::copy_(place_, incoming, false);
        grad_ = place_;
      }
    } else if (!grad_.defined()) {
      // With create_graph a copy that keeps its history: other leaves may have been given the same
      // tensor.
      if (grad_enabled()) grad_ = clone(incoming);
      else grad_ = is_exclusive(incoming) ? std::move(incoming) : raw::clone(incoming);
    } else if (grad_enabled()) {
      replaced = std::exchange(grad_, add(grad_, incoming, 1));
    } else {
      raw::add_(grad_, incoming, 1);
    }
  }
  if (post_hook_) post_hook_();
}

// Passes of several threads, or one after the other on several streams, may change the gradient. On
// the host the lock orders them; on the GPU each stream follows the one before it.
void AccumulateGrad::follow_last_writer() {
  if (!device().is_cuda()) return;
  const Stream now = backend(device()).current_stream(device().index);
  const Stream before = std::exchange(writer_, now);
  if (before == now || !before.device.is_cuda()) return;
  // Captured work cannot wait for work outside of its graph, nor the other way round: replays are
  // ordered as a whole.
  if (any_capture() && capture_of(before) != capture_of(now)) return;
  order_streams(before, now);
  keep_for(grad_, now);
  keep_for(aside_, now);
}

void AccumulateGrad::take_aside() {
  if (aside_.defined()) raw::add_(place_, std::exchange(aside_, Tensor()), 1);
  adds_ = false;
}

Tensor AccumulateGrad::lend_place(const void* borrower, bool* adds) {
  std::lock_guard lock(mutex_);
  if (!place_.defined() || !place_.is_dense() || borrower_ != nullptr) return {};
  if (grad_.defined() && (adds == nullptr || !same_memory(grad_, place_))) return {};
  adds_ = grad_.defined();
  if (adds) *adds = adds_;
  borrower_ = borrower;
  follow_last_writer();
  place_.bump_version();  // before it is written: whoever saved what lay there is told
  return place_;
}

void AccumulateGrad::return_place(const void* borrower) {
  std::lock_guard lock(mutex_);
  if (borrower_ != borrower) return;
  borrower_ = nullptr;
  follow_last_writer();
  if (adds_) take_aside();
}

Tensor AccumulateGrad::grad() const {
  std::lock_guard lock(mutex_);
  return grad_;
}

bool AccumulateGrad::has_grad(const Tensor& grad) const {
  std::lock_guard lock(mutex_);
  return grad_.same(grad);
}

void AccumulateGrad::set_grad(const Tensor& grad) {
  Tensor replaced;
  std::lock_guard lock(mutex_);
  if (any_capture()) LeafLog::note(this, grad_, false);
  replaced = grad_;
  if (grad.defined() && place_.defined() && !grad.same(place_)) {
    follow_last_writer();
    raw::copy_(place_, grad, false);
    grad_ = place_;
  } else {
    grad_ = grad;
    if (!place_.defined()) writer_ = {};  // a given gradient is the caller's to order
  }
}

void AccumulateGrad::put_grad(Tensor grad) {
  std::lock_guard lock(mutex_);
  std::swap(grad_, grad);
}

void AccumulateGrad::bind(const Tensor& place) {
  VT_CHECK(place.sizes() == sizes_ && place.dtype() == dtype_, kRuntime, "bind_grad: the place is ",
           place, ", the parameter has shape ", sizes_, " and type ", vt::name(dtype_));
  std::lock_guard lock(mutex_);
  if (grad_.defined()) {
    follow_last_writer();
    raw::copy_(place, grad_, false);
    grad_ = place;
  }
  place_ = place;
}

}  // namespace vt
