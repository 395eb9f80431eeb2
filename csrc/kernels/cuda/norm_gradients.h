// Parts of the kernels of norms' gradients: sums of columns over the rows of a block, and the
// kernel for few short rows.
#pragma once
#include "kernels/cuda/held_row.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/packs.h"

namespace vt::cuda {

// a * b + c, the same in every kernel.
__device__ __forceinline__ float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return __fma_rn(a, b, c); }

// The sums of the groups of a block meet in shared memory: [kind][j][p][thread], so that
// neighbouring threads never share a bank. Partial sums keep that order of columns.
template <int kWidth, int kBlock, class C, int kKinds, int kPacks, int V>
__device__ __forceinline__ void join_columns(const C (&columns)[kKinds][kPacks][V], C* meeting,
                                             C* partial) {
#pragma unroll
  for (int kind = 0; kind < kKinds; ++kind)
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
#pragma unroll
      for (int j = 0; j < V; ++j)
        meeting[((kind * V + j) * kPacks + p) * kBlock + threadIdx.x] = columns[kind][p][j];
  __syncthreads();
  constexpr int kColumnsHeld = V * kPacks * kWidth;
  for (int q = threadIdx.x; q < kKinds * kColumnsHeld; q += kBlock) {
    const C* from = meeting + q / kWidth * kBlock + q % kWidth;
    C sum = from[0];
#pragma unroll
    for (int g = 1; g < kBlock / kWidth; ++g) sum += from[g * kWidth];
    const int which = q / kColumnsHeld;
    partial[(int64_t{which} * gridDim.x + blockIdx.x) * kColumnsHeld + q % kColumnsHeld] = sum;
  }
}

// dx and partial as norm_backward_kernel's, for few short rows: a warp has kTogether of them at
// most, which it asks for at once and works on side by side, where one after the other would wait
// for its sums.
template <class T, int kPacks, bool kBoth, int kTogether, int kBlock>
__global__ void __launch_bounds__(kBlock, 1)
    norm_backward_few_kernel(NormBackward<T> a, compute_t<T>* partial) {
  await_earlier();
  using C = compute_t<T>;
  using Row = RegisterRow<T, kWarp, kPacks>;
  constexpr int V = Row::V, kGroups = kBlock / kWarp, kKinds = 1 + kBoth;
  if (partial) release_next();
  extern __shared__ __align__(16) char shared[];
  const int group = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, n = static_cast<int>(a.n);
  const int64_t step = int64_t{gridDim.x} * kGroups;
  const int64_t first = int64_t{blockIdx.x} * kGroups + group;
  C columns[kKinds][kPacks][V] = {};
  if (first < a.rows) {
    Row grads[kTogether], xs[kTogether], weight;
    C means[kTogether], rstds[kTogether];
    // Past the last row the first one again, which is not used.
    auto number = [&](int r) { return first + r * step < a.rows ? first + r * step : first; };
#pragma unroll
    for (int r = 0; r < kTogether; ++r) {
      const int64_t row = number(r);
      grads[r].load(a.grad + row * a.n, n, lane);
      xs[r].load(a.x + row * a.n, n, lane);
      means[r] = kBoth && a.means ? a.means[row] : C(0);
      rstds[r] = a.rstds[row];
    }
    if (a.weight) {
      weight.load(a.weight, n, lane);
    } else {
#pragma unroll
      for (Pack<T, V>& pack : weight.packs)
#pragma unroll
        for (T& one : pack.v) one = convert<T>(C(1));
    }
    Pack<C, V> hs[kTogether][kPacks], ds[kTogether][kPacks];  // grad * weight, x - mean
    C sum_g[kTogether] = {}, sum_gx[kTogether] = {};
#pragma unroll
    for (int r = 0; r < kTogether; ++r)
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        const Pack<C, V> grad = widen<C>(grads[r].packs[p]), x = widen<C>(xs[r].packs[p]),
                         w = widen<C>(weight.packs[p]);
        const bool counts = Row::start(p, lane) < n && first + r * step < a.rows;
#pragma unroll
        for (int j = 0; j < V; ++j) {
          const C h = grad.v[j] * w.v[j], d = kBoth ? x.v[j] - means[r] : x.v[j];
          hs[r][p].v[j] = h;
          ds[r][p].v[j] = d;
          if (!counts) continue;
          const C gx = grad.v[j] * d;
          sum_gx[r] += gx * w.v[j];
          columns[0][p][j] += gx * rstds[r];
          if constexpr (kBoth) {
            sum_g[r] += h;
            columns[1][p][j] += grad.v[j];
          }
        }
      }
#pragma unroll
    for (int mask = kWarp / 2; mask > 0; mask /= 2)
#pragma unroll
      for (int r = 0; r < kTogether; ++r) {
        sum_gx[r] += shuffle_xor(sum_gx[r], mask);
        if constexpr (kBoth) sum_g[r] += shuffle_xor(sum_g[r], mask);
      }
    const C inverse = C(1) / static_cast<C>(n);
#pragma unroll
    for (int r = 0; r < kTogether; ++r) {
      const C rstd = rstds[r], slope = sum_gx[r] * rstd * inverse * rstd * rstd;
      const C shift = kBoth && a.means ? rstd * (sum_g[r] * inverse) : C(0);
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        const int i = Row::start(p, lane);
        if (i >= n || first + r * step >= a.rows) continue;
        Pack<C, V> result;
#pragma unroll
        for (int j = 0; j < V; ++j)
          result.v[j] = fused(-slope, ds[r][p].v[j], fused(rstd, hs[r][p].v[j], -shift));
        *reinterpret_cast<Pack<T, V>*>(a.dx + (first + r * step) * a.n + i) = narrow<T>(result);
      }
    }
  }
  if (partial) join_columns<kWarp, kBlock>(columns, reinterpret_cast<C*>(shared), partial);
}

}  // namespace vt::cuda
