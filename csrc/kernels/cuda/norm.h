// The arguments of the norm kernels. RMS norm is layer norm with a mean of 0.
#pragma once
#include "kernels/types.h"

namespace vt::cuda {

template <class T>
struct NormForward {
  using C = compute_t<T>;
  T *out, *sum;                           // sum: of x and residual, where there is one
  C *means, *rstds;                       // means: null for RMS norm
  const T *x, *residual, *weight, *bias;  // the last three may be null
  int64_t rows, n;
  C eps;
  bool passing;  // more than the cache holds: what is read and written should not stay in it
};

// What is dropped of x before the residual is added. As kernels/cuda/dropout.cu does it, from the
// same numbers.
struct NormDropout {
  uint64_t* begun;  // seed and offset, noted here; null where nothing is dropped
  uint32_t least;
  double scale;
  PhiloxState state;
};

// The same numbers once more, for the gradient of what was dropped: the dropout of dx.
template <class T>
struct NormDroppedAgain {
  T* out;  // null: not wanted
  const uint64_t* begun;
  uint32_t least;
  double scale;
};

// With xhat = (x - mean) rstd and g = grad * weight: dx = rstd (g - mean(g) - xhat mean(g xhat)),
// dweight = sum over rows of grad * xhat, dbias = sum over rows of grad.
template <class T>
struct NormBackward {
  using C = compute_t<T>;
  T* dx;
  const T *grad, *extra, *x;  // extra: another gradient of x that is added to dx, or null
  const C *means, *rstds;     // means: null for RMS norm
  const T* weight;            // or null
  int64_t rows, n;
};

}  // namespace vt::cuda
