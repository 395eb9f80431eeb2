// Byte copies with a CUDA device at one end or at both.
#pragma once
#include <cstddef>

#include "base/device.h"

namespace vt::cuda {

// As Backend::copy.
void copy_memory(void* dst, Device dst_device, const void* src, Device src_device, size_t bytes,
                 bool non_blocking);

}  // namespace vt::cuda
