// The kernels by type. Each is compiled in a file of its own, as each takes a while.
#pragma once
#include "kernels/cuda/launch.h"

namespace vt::cuda::gelu {

// A block computes tiles of so many rows and columns.
inline constexpr int kTileRows = 128, kTileColumns = 128;

// out = gelu(a b + bias), and a b + bias to aux where that is not null.
template <class T>
void launch_forward(const Queue& queue, const Gemm& gemm);

// out = a b * gelu'(aux). If sums is not null, sums[i][column] becomes the sum of tile i's rows
// before they are rounded; there are as many columns as whole tiles have.
template <class T>
void launch_backward(const Queue& queue, const Gemm& gemm, float* sums);

}  // namespace vt::cuda::gelu
