// Sums of attention's gradients over all tokens, as gradients of biases are.
#pragma once
#include "kernels/types.h"
#include "tensor/storage.h"

namespace vt {

// May attention_backward of this on a GPU be asked for sums? Its kernel makes them then.
bool makes_sums_in_kernel(const Attention& attention);

// Is any of the sums wanted?
inline bool wants_sums(const Attention& a) { return a.dq_sums || a.dk_sums || a.dv_sums; }

// By a kernel of their own: calls reduce(sums, heads), which adds up dimensions 0 and 1, for each.
template <class Reduce>
void sums_of_gradients(const Attention& a, Reduce&& reduce) {
  const auto each = [&](void* sums, const HeadedTensor& t, int64_t heads, int64_t tokens) {
    if (!sums) return;
    const auto over = [&](void* data, const Dims& sizes, const Dims& strides) {
      int64_t last = 0;
      for (int d = 0; d < sizes.size(); ++d) last += (sizes[d] - 1) * strides[d];
      auto storage =
          Storage::wrap(a.device, data, static_cast<size_t>(last + 1) * item_size(a.dtype), {});
      return Tensor(
          Ref<TensorImpl>::adopt(new TensorImpl(std::move(storage), sizes, strides, 0, a.dtype)));
    };
    reduce(over(sums, Dims{heads, a.width}, Dims{a.width, 1}),
           over(t.data, Dims{a.batch, tokens, heads, a.width},
                Dims{t.batch_stride, t.token_stride, t.head_stride, 1}));
  };
  each(a.dq_sums, a.dq, a.heads, a.queries);
  each(a.dk_sums, a.dk, a.kv_heads, a.keys);
  each(a.dv_sums, a.dv, a.kv_heads, a.keys);
}

}  // namespace vt
