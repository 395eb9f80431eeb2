// Fused attention on the plain cores, for what tensor cores do not take: float32, and 16-bit floats
// where cuDNN is not there.
#pragma once
#include "kernels/types.h"

namespace vt::cuda {

bool rows_can_attend(const Attention& attention);
void rows_attention(const Attention& attention);
void rows_attention_backward(const Attention& attention);

}  // namespace vt::cuda
