// The allocator of every CUDA device, each with its own lock. Which kind it is,
// VIBETENSOR_CUDA_ALLOCATOR says.
#pragma once
#include <cstddef>

#include "device/device_allocator.h"

namespace vt::cuda {

DeviceAllocator& allocator(int index);

void* allocate(int index, size_t bytes);  // for work of the calling thread's current stream
void deallocate(int index, void* data) noexcept;

}  // namespace vt::cuda
