// Which dimensions a reduction folds, and the shapes that result; shared with the gradients.
#pragma once
#include <optional>

#include "tensor/tensor.h"

namespace vt {

// Bit set of the dimensions in `dim`; all of them where it is absent or empty.
uint32_t reduced_dims(const char* op, const std::optional<Dims>& dim, int ndim);
Dims reduced_sizes(const Dims& sizes, uint32_t dims, bool keepdim);

}  // namespace vt
