// Fused attention of 16-bit floats over so few tokens that a block holds a whole head.
#pragma once
#include "kernels/types.h"

namespace vt::cuda {

bool short_can_attend(const Attention& attention);
void short_attention(const Attention& attention);
void short_attention_backward(const Attention& attention);

}  // namespace vt::cuda
