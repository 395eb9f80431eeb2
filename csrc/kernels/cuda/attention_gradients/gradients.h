// Gradients of fused attention in two kernels made here, for 16-bit floats on GPUs of architecture
// 9.0: one adds up over keys, the other over queries, so no sum has an order that varies.
#pragma once
#include "kernels/types.h"

namespace vt::cuda {

// Do these kernels take this problem? The answer depends on shapes, strides, alignment and the GPU.
bool can_make_gradients(const Attention& attention);
// Are they as fast as cuDNN's, of which any order may be allowed?
bool gradients_pay(const Attention& attention);
// As attention_backward.
void gradients_of_attention(const Attention& attention);

}  // namespace vt::cuda
