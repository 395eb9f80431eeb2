// Fused attention on a GPU: which kernel takes which shape.
#include "kernels/cuda/vendor/cudnn.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {

void can_attend(const Attention& a, bool backward, bool* answer) {
  *answer = cudnn_can_attend(a, false) && (!backward || cudnn_can_attend(a, true));
}

void attention(const Attention& a) { cudnn_attention(a); }

void attention_backward(const Attention& a) { cudnn_attention_backward(a); }

}  // namespace vt::cuda
