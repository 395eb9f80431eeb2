// The kernels of norms' gradients for rows that a block holds.
//
// Note [Norm gradients in one pass]
// dweight and dbias are sums over rows, dx needs sums along them. One block a multiprocessor walks
// over the rows; each thread keeps its columns of dweight and dbias in registers from row to row,
// so grad and x are read once. The rows ahead are on their way into shared memory meanwhile. Blocks
// write their sums, a second kernel adds those up. The sums of dx along its columns, which are the
// gradient of a bias added in front of the residual stream, are kept in the same way. The order of
// every sum depends on the shape and the GPU only.
//
// Rows are walked from the last one to the first: the kernel before has written the end of grad
// last and the kernel behind reads the beginning of dx first, so the cache has more of both.
#pragma once
#include "kernels/cuda/drop_pack.h"
#include "kernels/cuda/held_row.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/packs.h"

namespace vt::cuda {

// What is made of dx beside itself: the sums of its columns, or its dropout.
enum class Beside { kNothing, kSums, kDropped };

// Threads of a block whose rows take `width` threads each, a whole number of groups; fewer where
// each needs many registers.
constexpr int norm_block(int width, int packs, Beside beside) {
  return width == 32 && packs >= (beside == Beside::kSums ? 2 : 3) ? 384 : 512;
}

// a * b + c, the same in every kernel.
__device__ __forceinline__ float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return __fma_rn(a, b, c); }

template <class C>
struct TwoSums {
  C g, gx;
};
struct AddSums {
  template <class C>
  __device__ __forceinline__ TwoSums<C> operator()(TwoSums<C> a, TwoSums<C> b) const {
    return {a.g + b.g, a.gx + b.gx};
  }
  template <class C>
  __device__ __forceinline__ C operator()(C a, C b) const {
    return a + b;
  }
};

// Sums over the kWidth threads that a row takes; the groups of a block, which have a row each, meet
// here unless they are warps. `turn` alternates from call to call: a slow thread then still finds
// the parts of the call before.
template <int kWidth, int kBlock, class Sums>
__device__ __forceinline__ Sums sum_over_group(Sums value, int turn) {
  value = warp_reduce(value, AddSums{});
  if constexpr (kWidth == kWarp) return value;
  constexpr int kWarps = kWidth / kWarp;
  __shared__ Sums storage[2][kBlock / kWarp];
  const int group = threadIdx.x / kWidth, warp = threadIdx.x / kWarp;
  if (threadIdx.x % kWarp == 0) storage[turn][warp] = value;
  __syncthreads();
  const Sums* parts = &storage[turn][group * kWarps];
  Sums result = parts[0];
#pragma unroll
  for (int w = 1; w < kWarps; ++w) result = AddSums{}(result, parts[w]);
  return result;
}

// The sums of the groups of a block meet in shared memory, 16 bytes at a time, and leave it in the
// order of the columns: partial is [kinds][blocks][n].
template <int kWidth, int kBlock, class C, int kKinds, int kPacks, int V>
__device__ __forceinline__ void join_columns(const C (&columns)[kKinds][kPacks][V], char* shared,
                                             C* partial, int n) {
  constexpr int Q = 16 / sizeof(C), kParts = V / Q;
  using Part = Pack<C, Q>;
  Part* meeting = reinterpret_cast<Part*>(shared);  // [kind][pack][part][thread]
  // Parts of neighbours are read side by side, so every other part has its threads in another order
  // and no bank is read twice.
  auto place = [&](int kind, int p, int part, int thread) -> Part& {
    return meeting[((kind * kPacks + p) * kParts + part) * kBlock + (thread ^ part * 4)];
  };
#pragma unroll
  for (int kind = 0; kind < kKinds; ++kind)
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        Part one;
#pragma unroll
        for (int j = 0; j < Q; ++j) one.v[j] = columns[kind][p][part * Q + j];
        place(kind, p, part, threadIdx.x) = one;
      }
  __syncthreads();
  constexpr int kRow = kPacks * kWidth * kParts;  // parts
  for (int q = threadIdx.x; q < kKinds * kRow; q += kBlock) {
    const int kind = q / kRow, at = q % kRow, part = at % kParts;
    const int p = at / kParts / kWidth, lane = at / kParts % kWidth;
    if (at * Q >= n) continue;
    Part sum = place(kind, p, part, lane);
#pragma unroll
    for (int g = 1; g < kBlock / kWidth; ++g) {
      const Part other = place(kind, p, part, g * kWidth + lane);
#pragma unroll
      for (int j = 0; j < Q; ++j) sum.v[j] += other.v[j];
    }
    *reinterpret_cast<Part*>(partial + (int64_t{kind} * gridDim.x + blockIdx.x) * n + at * Q) = sum;
  }
}

// The rows that a thread works on next, on their way into shared memory. It reads what it copied
// itself, so that no barrier is needed.
template <class T, int kWidth, int kPacks, bool kExtra, int kBlock>
struct RowsAhead {
  static constexpr int V = 16 / sizeof(T), kTensors = kExtra ? 3 : 2;
  static constexpr int kStages = kPacks * kTensors >= 4 && !(kExtra && kWidth == 512) ? 3 : 4;
  static constexpr size_t kBytes = size_t{kStages} * kTensors * kPacks * kBlock * 16;
  using Held = Pack<T, V>;
  Held* memory;  // [stage][tensor][pack][thread]

  __device__ __forceinline__ Held* place(int stage, int tensor, int pack) const {
    return memory + ((stage * kTensors + tensor) * kPacks + pack) * kBlock + threadIdx.x;
  }
  __device__ __forceinline__ void copy(int stage, int tensor, const T* row, int n, int lane) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (const int i = RegisterRow<T, kWidth, kPacks>::start(p, lane); i < n)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                         static_cast<unsigned>(__cvta_generic_to_shared(place(stage, tensor, p)))),
                     "l"(row + i)
                     : "memory");
  }
  // Starts the copy of a row, of none where its number is negative.
  __device__ __forceinline__ void start(const NormBackward<T>& a, int64_t row, int stage,
                                        int lane) const {
    if (row >= 0) {
      const int n = static_cast<int>(a.n);
      copy(stage, 0, a.grad + row * a.n, n, lane);
      copy(stage, 1, a.x + row * a.n, n, lane);
      if constexpr (kExtra) copy(stage, 2, a.extra + row * a.n, n, lane);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  // Waits for all copies but the latest kStages - 1.
  __device__ __forceinline__ void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 1) : "memory");
  }
};

// See Note [Norm gradients in one pass]. kBoth: as layer norm needs it; RMS norm has no mean and no
// bias. partial is [kinds][blocks][n], where the kinds are dweight, dbias with
// kBoth and the sums of dx, which are taken before it is rounded; or null.
template <class T, int kWidth, int kPacks, bool kExtra, bool kBoth, Beside kBeside, int kBlock>
__global__ void __launch_bounds__(kBlock, 1)
    norm_backward_kernel(NormBackward<T> a, NormDroppedAgain<T> drop, compute_t<T>* partial) {
  await_earlier();
  using C = compute_t<T>;
  using Row = RegisterRow<T, kWidth, kPacks>;
  using Ahead = RowsAhead<T, kWidth, kPacks, kExtra, kBlock>;
  constexpr int V = Row::V, kGroups = kBlock / kWidth, kStages = Ahead::kStages;
  constexpr bool kSums = kBeside == Beside::kSums;
  constexpr int kKinds = 1 + kBoth + kSums;
  // Are widened numbers kept from the first walk over a row for the second one? The kernel has as
  // many instructions to issue as the memory gives it time for.
  constexpr bool kKeep = sizeof(C) == 4 && kBlock <= 512;
  extern __shared__ __align__(16) char shared[];
  const Ahead ahead{reinterpret_cast<Pack<T, V>*>(shared)};
  const int group = threadIdx.x / kWidth, lane = threadIdx.x % kWidth;
  const int n = static_cast<int>(a.n);
  const int64_t step = int64_t{gridDim.x} * kGroups;
  int64_t row = a.rows - 1 - (int64_t{blockIdx.x} * kGroups + group);
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) ahead.start(a, row - s * step, s, lane);
  Row weight;
  if (a.weight) {
    weight.load(a.weight, n, lane);
  } else {
#pragma unroll
    for (Pack<T, V>& pack : weight.packs)
#pragma unroll
      for (T& one : pack.v) one = convert<T>(C(1));
  }
  C columns[kKinds][kPacks][V] = {};
  const C inverse = C(1) / static_cast<C>(n);
  C next_mean = 0, next_rstd = 0;
  auto load_statistics = [&](int64_t of) {
    if (of < 0) return;
    if (kBoth && a.means) next_mean = a.means[of];
    next_rstd = a.rstds[of];
  };
  load_statistics(row);
  PhiloxStart numbers{};
  if constexpr (kBeside == Beside::kDropped) numbers = {drop.begun[0], drop.begun[1]};
  // Groups of more than a warp take turns together: of the last rows some have none.
  constexpr bool kTogether = kWidth > kWarp;
  auto has = [&](int p) { return Row::start(p, lane) < n && (!kTogether || row >= 0); };
  for (int stage = 0, turn = 0; row + (kTogether ? group : 0) >= 0; row -= step, turn ^= 1) {
    const C mean = next_mean, rstd = next_rstd;
    load_statistics(row - step);
    ahead.start(a, row - (kStages - 1) * step, stage == 0 ? kStages - 1 : stage - 1, lane);
    ahead.wait();
    // grad * weight and x - mean, which is xhat / rstd.
    Pack<C, V> kept_h[kKeep ? kPacks : 1], kept_x[kKeep ? kPacks : 1];
    // f(j, grad, grad * weight, x - mean, weight)
    auto each = [&](int p, auto&& f) {
      const Pack<C, V> grad = widen<C>(*ahead.place(stage, 0, p)),
                       x = widen<C>(*ahead.place(stage, 1, p)), w = widen<C>(weight.packs[p]);
#pragma unroll
      for (int j = 0; j < V; ++j)
        f(j, grad.v[j], grad.v[j] * w.v[j], kBoth ? x.v[j] - mean : x.v[j], w.v[j]);
    };
    C sum_g = 0, sum_gx = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (has(p))
        each(p, [&](int j, C g, C h, C x, C w) {
          if constexpr (kKeep) {
            kept_h[p].v[j] = h;
            kept_x[p].v[j] = x;
          }
          const C gx = g * x;
          sum_gx += gx * w;
          columns[0][p][j] += gx * rstd;
          if constexpr (kBoth) {
            sum_g += h;
            columns[1][p][j] += g;
          }
        });
    // dx = rstd h - shift - slope (x - mean)
    C shift = 0;
    if constexpr (kBoth) {
      const auto sums = sum_over_group<kWidth, kBlock>(TwoSums<C>{sum_g, sum_gx}, turn);
      if (a.means) shift = rstd * (sums.g * inverse);
      sum_gx = sums.gx;
    } else {
      sum_gx = sum_over_group<kWidth, kBlock>(sum_gx, turn);
    }
    const C slope = sum_gx * rstd * inverse * rstd * rstd;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (!has(p)) continue;
      Pack<C, V> result, extra;
      if constexpr (kExtra) extra = widen<C>(*ahead.place(stage, 2, p));
      auto put = [&](int j, C, C h, C x, C) {
        result.v[j] = fused(-slope, x, fused(rstd, h, -shift));
        if constexpr (kExtra) result.v[j] += extra.v[j];
        if constexpr (kSums) columns[kKinds - 1][p][j] += result.v[j];
      };
      if constexpr (kKeep) {
#pragma unroll
        for (int j = 0; j < V; ++j) put(j, C(0), kept_h[p].v[j], kept_x[p].v[j], C(0));
      } else {
        each(p, put);
      }
      Pack<T, V> rounded = narrow<T>(result);
      const int64_t at = row * a.n + Row::start(p, lane);
      *reinterpret_cast<Pack<T, V>*>(a.dx + at) = rounded;
      if constexpr (kBeside == Beside::kDropped) {
        drop_pack(rounded, at, drop.least, drop.scale, numbers);
        *reinterpret_cast<Pack<T, V>*>(drop.out + at) = rounded;
      }
    }
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
  if (!partial) return;
  asm volatile("cp.async.wait_all;" ::: "memory");
  __syncthreads();
  static_assert(size_t{kKinds} * V * kPacks * kBlock * sizeof(C) <= Ahead::kBytes);
  join_columns<kWidth, kBlock>(columns, shared, partial, n);
}

// dx and partial as norm_backward_kernel's for RMS norm of few rows, of a pack a lane, with nothing
// else to add or make: a warp has kTogether of them at most, which it asks for at once and works on
// side by side, where one after the other would wait for its sums.
template <class T, int kTogether, int kBlock>
__global__ void __launch_bounds__(kBlock, 1)
    norm_backward_few_kernel(NormBackward<T> a, NormDroppedAgain<T>, compute_t<T>* partial) {
  await_earlier();
  using C = compute_t<T>;
  using Row = RegisterRow<T, kWarp, 1>;
  constexpr int V = Row::V, kGroups = kBlock / kWarp;
  if (partial) release_next();
  extern __shared__ __align__(16) char shared[];
  const int group = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, n = static_cast<int>(a.n);
  const int64_t step = int64_t{gridDim.x} * kGroups;
  const int64_t first = int64_t{blockIdx.x} * kGroups + group;
  C columns[1][1][V] = {};
  if (first < a.rows) {
    Row grads[kTogether], xs[kTogether], weight;
    C rstds[kTogether];
    auto there = [&](int r) { return first + r * step < a.rows; };
#pragma unroll
    for (int r = 0; r < kTogether; ++r) {
      // Past the last row the first one again, which is not used.
      const int64_t row = there(r) ? first + r * step : first;
      grads[r].load(a.grad + row * a.n, n, lane);
      xs[r].load(a.x + row * a.n, n, lane);
      rstds[r] = a.rstds[row];
    }
    if (a.weight) {
      weight.load(a.weight, n, lane);
    } else {
      for (T& one : weight.packs[0].v) one = convert<T>(C(1));
    }
    const int i = Row::start(0, lane);
    Pack<C, V> hs[kTogether], wide[kTogether];  // grad * weight, x
    C sums[kTogether] = {};
    const Pack<C, V> w = widen<C>(weight.packs[0]);
#pragma unroll
    for (int r = 0; r < kTogether; ++r) {
      const Pack<C, V> grad = widen<C>(grads[r].packs[0]);
      wide[r] = widen<C>(xs[r].packs[0]);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        hs[r].v[j] = grad.v[j] * w.v[j];
        if (i >= n || !there(r)) continue;
        const C gx = grad.v[j] * wide[r].v[j];
        sums[r] += gx * w.v[j];
        columns[0][0][j] += gx * rstds[r];
      }
    }
#pragma unroll
    for (int mask = kWarp / 2; mask > 0; mask /= 2)
#pragma unroll
      for (C& sum : sums) sum += shuffle_xor(sum, mask);
    const C inverse = C(1) / static_cast<C>(n);
#pragma unroll
    for (int r = 0; r < kTogether; ++r) {
      if (i >= n || !there(r)) continue;
      const C slope = sums[r] * rstds[r] * inverse * rstds[r] * rstds[r];
      Pack<C, V> result;
#pragma unroll
      for (int j = 0; j < V; ++j)
        result.v[j] = fused(-slope, wide[r].v[j], fused(rstds[r], hs[r].v[j], C(0)));
      *reinterpret_cast<Pack<T, V>*>(a.dx + (first + r * step) * a.n + i) = narrow<T>(result);
    }
  }
  if (partial) join_columns<kWarp, kBlock>(columns, shared, partial, n);
}

}  // namespace vt::cuda
