// Count, mean and sum of squared deviations of numbers, joined pairwise (Chan, Golub and LeVeque,
// "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
#pragma once
#include "kernels/cuda/launch.h"

namespace vt::cuda {

template <class C>
struct Moments {
  C count, mean, squares;
};

struct JoinMoments {
  template <class C>
  __device__ __forceinline__ Moments<C> operator()(Moments<C> a, Moments<C> b) const {
    if (a.count == 0) return b;
    if (b.count == 0) return a;
    const C count = a.count + b.count, share = b.count / count, distance = b.mean - a.mean;
    const C mean = a.mean + distance * share;
    // The last term: an infinite number is no finite distance from the mean, which makes NaN.
    return {count, mean,
            (a.squares + b.squares) + distance * distance * (a.count * share) + (mean - mean)};
  }
};

template <class C, int N>
__device__ __forceinline__ C total(const C (&x)[N]) {
  C sum = x[0];
#pragma unroll
  for (int j = 1; j < N; ++j) sum += x[j];
  return sum;
}

// Of N numbers at hand, in two walks.
template <class C, int N>
__device__ __forceinline__ Moments<C> moments_of(const C (&x)[N]) {
  constexpr int kSums = N % 4 == 0 ? 4 : 1;  // that do not wait for each other
  C sums[kSums] = {}, squares[kSums] = {};
#pragma unroll
  for (int j = 0; j < N; ++j) sums[j % kSums] += x[j];
  const C mean = total(sums) / static_cast<C>(N);
#pragma unroll
  for (int j = 0; j < N; ++j) squares[j % kSums] += (x[j] - mean) * (x[j] - mean);
  return {static_cast<C>(N), mean, total(squares)};
}

}  // namespace vt::cuda
