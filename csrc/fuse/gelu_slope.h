// Whether a recorded step wants GELU's slope on the way forward.
#pragma once
#include "tensor/tensor.h"

namespace vt::fuse {

// Note [GELU's slope on the way forward]
// The gradient of GELU needs what GELU was applied to, or just its slope there. Where a product's
// kernel applies GELU, the slope costs that kernel a few instructions behind the tensor cores, and
// the product on the way back multiplies by it, where it would compute a tanh per element with
// nothing to hide behind. It takes the memory that the product's result would have kept. It is
// rounded, to float16 where tensors are bfloat16; what it is computed from is not. By the time
// backward runs, the list has long been carried out, so the choice is made when GELU is called: the
// operator keeps its slope instead of its input if that comes from a product in the list whose
// kernel makes both (pass gelu_slope).
bool makes_gelu_slope(const Tensor& x);

// Are a product and GELU to be called one after the other, as the list joins them anyway?
bool joins_gelu();

}  // namespace vt::fuse
