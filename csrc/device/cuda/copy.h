// Byte copies with a CUDA device at one end or at both.
#pragma once
#include <cstddef>
#include <span>

#include "device/backend.h"

namespace vt::cuda {

// As Backend::copy.
void copy_memory(void* dst, Device dst_device, const void* src, Device src_device, size_t bytes,
                 bool non_blocking);

// As Backend::copy_many.
void copy_many(int index, std::span<const Copy> copies);

}  // namespace vt::cuda
