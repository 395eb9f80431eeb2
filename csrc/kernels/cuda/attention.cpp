// Fused attention on a GPU: which kernel takes which shape.
#include "kernels/attention_sums.h"
#include "kernels/cuda/attention_gradients/gradients.h"
#include "kernels/cuda/attention_rows.h"
#include "kernels/cuda/attention_short.h"
#include "kernels/cuda/vendor/cudnn.h"
#include "kernels/structured_cuda.h"

namespace vt {

// Whether the kernels made here take the gradients.
bool makes_sums_in_kernel(const Attention& a) {
  using namespace cuda;
  return !short_can_attend(a) && can_make_gradients(a) &&
         (gradients_pay(a) || !cudnn_can_attend(a, true));
}

namespace cuda {

void can_attend(const Attention& a, bool backward, bool* answer) {
  *answer = short_can_attend(a) || rows_can_attend(a) ||
            (cudnn_can_attend(a, false) && (!backward || cudnn_can_attend(a, true)));
}

void attention(const Attention& a) {
  if (short_can_attend(a)) return short_attention(a);
  cudnn_can_attend(a, false) ? cudnn_attention(a) : rows_attention(a);
}

void attention_backward(const Attention& a) {
  if (makes_sums_in_kernel(a)) return gradients_of_attention(a);
  VT_CHECK(!wants_sums(a), kRuntime, "attention_backward: the kernel for ", a.batch, 'x', a.heads,
           " heads of ", a.queries, " queries, ", a.keys, " keys and width ", a.width,
           " makes no sums of gradients");
  if (short_can_attend(a)) return short_attention_backward(a);
  cudnn_can_attend(a, true) ? cudnn_attention_backward(a) : rows_attention_backward(a);
}

}  // namespace cuda
}  // namespace vt
