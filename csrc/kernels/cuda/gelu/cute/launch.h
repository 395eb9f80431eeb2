// The kernels by type and tile. Each is compiled in a file of its own, as each takes a while.
#pragma once
#include "kernels/cuda/launch.h"

namespace vt::cuda::gelu {

// A tile has so many rows, and one of two numbers of columns.
inline constexpr int kTileRows = 128, kColumns = 128, kManyColumns = 192;
inline constexpr int kSumsOfTile = 4;  // rows of sums
inline constexpr int kRowsOfCluster = 2 * kTileRows;

// out = gelu(a b + bias), and to aux where that is not null a b + bias, or gelu' of it (kSlope,
// which asks for aux).
template <class T, int kTileColumns, bool kSlope>
void launch_forward(const Queue& queue, const Gemm& gemm);

// out = a b * gelu'(aux), or a b * aux (kSlope). If sums is not null, its kSumsOfTile rows for each
// tile's rows become sums of columns, of what is not rounded yet. There are as many columns as
// whole tiles have.
template <class T, int kTileColumns, bool kSlope>
void launch_backward(const Queue& queue, const Gemm& gemm, float* sums);

// out = a b + bias, in wide tiles; the second adds the addend, too. The bias may be null.
template <class T>
void launch_linear(const Queue& queue, const Gemm& gemm);
template <class T>
void launch_linear_add(const Queue& queue, const Gemm& gemm);
// out = a b, where b lies along n.
template <class T>
void launch_plain(const Queue& queue, const Gemm& gemm);

// out[r, :] = exp2(log2(e) (a b)[r, :] + shifts[r]), and the sums of its wide tiles' rows, of what
// is not rounded yet: sums[tile * stride + r]. Shifts and sums have room for kRowsOfCluster whole
// rows at their end. A panel of rows after the other, each of whole clusters, so that a panel stays
// in the cache.
void launch_exponentials(const Queue& queue, const Gemm& gemm, const float* shifts, float* sums,
                         int64_t stride, int panels);

}  // namespace vt::cuda::gelu
