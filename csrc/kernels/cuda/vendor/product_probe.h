// Small kernels around the timing of products: operands to multiply, a pause that lets launches
// pile up, and a fingerprint of results.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/types.h"

namespace vt::cuda {

// Numbers between -1 and 1 that look random, on the device's current stream.
void fill_for_timing(Device device, DType dtype, void* data, int64_t count, uint64_t seed);

// Occupies the stream for so many nanoseconds, a hundredth of a second at most.
void pause_stream(Device device, int64_t nanoseconds);

// A sum over the bits and places of all elements; waits for it.
uint64_t fingerprint(Device device, DType dtype, const GemmMatrix& matrix, int64_t rows,
                     int64_t columns, int64_t batch);

}  // namespace vt::cuda
