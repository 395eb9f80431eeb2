// Fused attention through cuDNN's graph API. A build without cuDNN's headers supports none
// (no_cudnn/).
#pragma once
#include "kernels/types.h"

namespace vt::cuda {

// Has cuDNN a kernel for this? The first question about a shape builds its plan. False too where
// the library is not installed.
bool cudnn_can_attend(const Attention& attention, bool backward);
void cudnn_attention(const Attention& attention);
void cudnn_attention_backward(const Attention& attention);

}  // namespace vt::cuda
