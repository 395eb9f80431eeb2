// Fused attention on a GPU: which kernel takes which shape.
#include "kernels/cuda/attention_gradients/gradients.h"
#include "kernels/cuda/attention_rows.h"
#include "kernels/cuda/attention_short.h"
#include "kernels/cuda/vendor/cudnn.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {

void can_attend(const Attention& a, bool backward, bool* answer) {
  *answer = short_can_attend(a) || rows_can_attend(a) ||
            (cudnn_can_attend(a, false) && (!backward || cudnn_can_attend(a, true)));
}

void attention(const Attention& a) {
  if (short_can_attend(a)) return short_attention(a);
  cudnn_can_attend(a, false) ? cudnn_attention(a) : rows_attention(a);
}

void attention_backward(const Attention& a) {
  if (short_can_attend(a)) return short_attention_backward(a);
  if (can_make_gradients(a) && (gradients_pay(a) || !cudnn_can_attend(a, true)))
    return gradients_of_attention(a);
  cudnn_can_attend(a, true) ? cudnn_attention_backward(a) : rows_attention_backward(a);
}

}  // namespace vt::cuda
