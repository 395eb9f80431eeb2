// Gradients that one stream of a GPU has made and another one uses.
#pragma once
#include "device/backend.h"
#include "tensor/tensor.h"

namespace vt {

// The memory of `grad` is not given out again before what `user` has been told by then is done.
inline void keep_for(const Tensor& grad, Stream user) {
  if (grad.defined() && grad.numel() > 0 && !grad.storage().wrapped())
    backend(user.device).record_stream(user.device.index, grad.storage().data(), user);
}

// Work of `to` finds `grad` as `from` leaves it.
inline void pass_on(const Tensor& grad, Stream from, Stream to) {
  if (from == to || !grad.device().is_cuda()) return;
  order_streams(from, to);
  keep_for(grad, to);
}

}  // namespace vt
