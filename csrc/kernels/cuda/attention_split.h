// Fused attention of float32 on tensor cores, each number in three bfloat16 pieces.
#pragma once
#include "kernels/types.h"

namespace vt::cuda {

// For what rows_can_attend() takes.
bool split_can_attend(const Attention& attention);
void split_attention(const Attention& attention);
void split_attention_backward(const Attention& attention);

}  // namespace vt::cuda
