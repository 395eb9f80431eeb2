// What the backward of linear leaves to one function, so that both results can come from one
// launch.
#pragma once
#include "tensor/tensor.h"

namespace vt::raw {

// dweight = grad^T @ rows and dbias = the sum of grad's rows, where defined; both are overwritten,
// but with `add` the product is added to dweight. grad is [n, out], rows [n, in], dweight [out, in]
// and dbias [out], of one float type.
void linear_parameter_gradients(const Tensor& grad, const Tensor& rows, const Tensor& dweight,
                                const Tensor& dbias, bool add);

}  // namespace vt::raw
