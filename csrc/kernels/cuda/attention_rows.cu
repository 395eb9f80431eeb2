// Attention in which one thread, or a few lanes of a warp, own a few rows: of queries for the
// output and the query's gradient, of keys for the gradients of key and value. The other side
// streams through shared memory. Every sum has a fixed order, so all results are the same in every
// run.
#include "kernels/cuda/attention_rows.h"

#include "kernels/cuda/attention_heads.h"
#include "kernels/cuda/attention_split.h"

namespace vt::cuda {
namespace {

constexpr int kRowThreads = 128;
constexpr int64_t kMostKeys = 1024;  // beyond, float32 products through cuBLASLt are faster

// How a row of D features is spread: over L lanes of 16 features each. Lane l has the fours l, l +
// L, l + 2L, ...: lanes then read different banks. A group of L lanes owns several rows, since
// reading shared memory, which they have in common, is what bounds these kernels.
template <int D>
struct Shape {
  static constexpr int kLanes = D / 16;
  static constexpr int kGroups = kWarp / kLanes;   // of a warp
  static constexpr int kFours = D / 4;             // of a row
  static constexpr int kOwn = 4;                   // fours of a lane
  static constexpr int kTile = D <= 64 ? 64 : 32;  // rows in shared memory at a time
};
constexpr int kOutputRows = 4, kGradientRows = 2;  // of a group

template <class T>
__device__ float4 load4(const T* data) {
  const auto pack = *reinterpret_cast<const Pack<T, 4>*>(data);
  return {convert<float>(pack.v[0]), convert<float>(pack.v[1]), convert<float>(pack.v[2]),
          convert<float>(pack.v[3])};
}
template <class T>
__device__ void store4(T* data, float4 x) {
  *reinterpret_cast<Pack<T, 4>*>(data) = {
      {convert<T>(x.x), convert<T>(x.y), convert<T>(x.z), convert<T>(x.w)}};
}

__device__ float dot(float4 a, float4 b, float sum) {
  return fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, sum))));
}
__device__ void add_scaled(float4& sum, float factor, float4 x) {
  sum.x = fmaf(factor, x.x, sum.x);
  sum.y = fmaf(factor, x.y, sum.y);
  sum.z = fmaf(factor, x.z, sum.z);
  sum.w = fmaf(factor, x.w, sum.w);
}
__device__ float4 times(float4 x, float factor) {
  return {x.x * factor, x.y * factor, x.z * factor, x.w * factor};
}

// The part of a row that a lane owns.
template <int D>
struct Row {
  static constexpr int kOwn = Shape<D>::kOwn, kLanes = Shape<D>::kLanes;
  float4 x[kOwn];

  __device__ void clear() {
#pragma unroll
    for (int c = 0; c < kOwn; ++c) x[c] = {0, 0, 0, 0};
  }
  template <class T>
  __device__ void load(const T* row, int lane, int width) {
#pragma unroll
    for (int c = 0; c < kOwn; ++c) {
      const int feature = (c * kLanes + lane) * 4;
      x[c] = row && feature < width ? load4(row + feature) : float4{0, 0, 0, 0};
    }
  }
  template <class T>
  __device__ void store(T* row, int lane, int width, float factor) const {
#pragma unroll
    for (int c = 0; c < kOwn; ++c) {
      const int feature = (c * kLanes + lane) * 4;
      if (feature < width) store4(row + feature, times(x[c], factor));
    }
  }
  // A lane's share of the inner product with a row in shared memory; `across` adds the shares.
  __device__ float share(const float4 (&shared)[kOwn]) const {
    float sum = 0;
#pragma unroll
    for (int c = 0; c < kOwn; ++c) sum = dot(x[c], shared[c], sum);
    return sum;
  }
  __device__ void add(float factor, const float4 (&shared)[kOwn]) {
#pragma unroll
    for (int c = 0; c < kOwn; ++c) add_scaled(x[c], factor, shared[c]);
  }
  __device__ void scale(float factor) {
#pragma unroll
    for (int c = 0; c < kOwn; ++c) x[c] = times(x[c], factor);
  }
};

// The sum over the lanes of a row, for each of them.
template <int D>
__device__ float across(float sum) {
#pragma unroll
  for (int step = 1; step < Shape<D>::kLanes; step *= 2)
    sum += __shfl_xor_sync(0xffffffffu, sum, step);
  return sum;
}
// A lane's part of a row in shared memory.
template <int D>
__device__ void read(float4 (&part)[Shape<D>::kOwn], const float4* row, int lane) {
#pragma unroll
  for (int c = 0; c < Shape<D>::kOwn; ++c) part[c] = row[c * Shape<D>::kLanes + lane];
}

// The rows of a thread's group: row r is first + r * kGroups. A warp's rows are neighbours.
template <int D, int R>
struct Place {
  int lane, first, warp_first, block_first, block_rows;
  __device__ Place() {
    lane = threadIdx.x % Shape<D>::kLanes;
    block_rows = static_cast<int>(blockDim.x) / kWarp * Shape<D>::kGroups * R;
    block_first = static_cast<int>(blockIdx.y) * block_rows;
    warp_first = block_first + static_cast<int>(threadIdx.x) / kWarp * Shape<D>::kGroups * R;
    first = warp_first + static_cast<int>(threadIdx.x) % kWarp / Shape<D>::kLanes;
  }
  __device__ int row(int r) const { return first + r * Shape<D>::kGroups; }
  // One past the last key that a warp, or the block, may look at.
  __device__ int warp_end(int keys, bool causal) const {
    return causal ? min(warp_first + Shape<D>::kGroups * R, keys) : keys;
  }
  __device__ int block_end(int keys, bool causal) const {
    return causal ? min(block_first + block_rows, keys) : keys;
  }
};

template <class T>
using Inputs = AttentionInputs<T>;

// Rows [first, first + kTile) of one head into shared memory, zeros beyond `count` and `width`.
template <int D, class T>
__device__ void fill_tile(float4 (*tile)[Shape<D>::kFours], const Heads<T>& from, int batch,
                          int head, int first, int count, int width) {
  for (int i = threadIdx.x; i < Shape<D>::kTile * Shape<D>::kFours; i += blockDim.x) {
    const int row = i / Shape<D>::kFours, four = i % Shape<D>::kFours;
    const bool there = first + row < count && four * 4 < width;
    tile[row][four] =
        there ? load4(from.row(batch, head, first + row) + four * 4) : float4{0, 0, 0, 0};
  }
}

template <class T, int D>
__global__ void __launch_bounds__(kRowThreads) attend_kernel(Inputs<T> in) {
  using S = Shape<D>;
  constexpr int R = kOutputRows, kChunk = 4;  // kChunk scores between two looks at the maximum
  __shared__ float4 ks[S::kTile][S::kFours], vs[S::kTile][S::kFours];
  const int head = blockIdx.x % in.heads, batch = blockIdx.x / in.heads;
  const int kv = head / (in.heads / in.kv_heads);
  const Place<D, R> at;
  Row<D> q[R], sum[R];
  float highest[R], total[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int row = at.row(r);
    q[r].load(row < in.queries ? in.q.row(batch, head, row) : nullptr, at.lane, in.width);
    q[r].scale(in.scale * kLog2E);
    sum[r].clear();
    highest[r] = -INFINITY;
    total[r] = 0;
  }
  const int end = at.block_end(in.keys, in.causal), own_end = at.warp_end(in.keys, in.causal);
  for (int start = 0; start < end; start += S::kTile) {
    __syncthreads();
    fill_tile<D>(ks, in.k, batch, kv, start, in.keys, in.width);
    fill_tile<D>(vs, in.v, batch, kv, start, in.keys, in.width);
    __syncthreads();
    const int count = min(S::kTile, own_end - start);
#pragma unroll 1
    for (int j = 0; j < count; j += kChunk) {
      float s[R][kChunk];
#pragma unroll
      for (int u = 0; u < kChunk; ++u) {
        float4 k[S::kOwn];
        read<D>(k, ks[j + u], at.lane);
#pragma unroll
        for (int r = 0; r < R; ++r) s[r][u] = across<D>(q[r].share(k));
      }
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const int visible = in.causal ? min(at.row(r) + 1, in.keys) : in.keys;
        float top = -INFINITY;
#pragma unroll
        for (int u = 0; u < kChunk; ++u) {
          if (start + j + u >= visible) s[r][u] = -INFINITY;
          top = fmaxf(top, s[r][u]);
        }
        if (top > highest[r]) {
          const float factor = exp2f(highest[r] - top);
          sum[r].scale(factor);
          total[r] *= factor;
          highest[r] = top;
        }
        const float base = finite_base(highest[r]);
#pragma unroll
        for (int u = 0; u < kChunk; ++u) {
          s[r][u] = exp2f(s[r][u] - base);
          total[r] += s[r][u];
        }
      }
#pragma unroll
      for (int u = 0; u < kChunk; ++u) {
        float4 v[S::kOwn];
        read<D>(v, vs[j + u], at.lane);
#pragma unroll
        for (int r = 0; r < R; ++r) sum[r].add(s[r][u], v);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int row = at.row(r);
    if (row >= in.queries) continue;
    sum[r].store(in.out.row(batch, head, row), at.lane, in.width, inverse_of(total[r]));
    if (at.lane == 0)
      in.stats[(int64_t{batch} * in.heads + head) * in.queries + row] =
          log_of(highest[r], total[r]);
  }
}

// dq, and delta = sum of dout * out of each row.
template <class T, int D>
__global__ void __launch_bounds__(kRowThreads) query_gradient_kernel(Inputs<T> in) {
  using S = Shape<D>;
  constexpr int R = kGradientRows;
  __shared__ float4 ks[S::kTile][S::kFours], vs[S::kTile][S::kFours];
  const int head = blockIdx.x % in.heads, batch = blockIdx.x / in.heads;
  const int kv = head / (in.heads / in.kv_heads);
  const int64_t places = (int64_t{batch} * in.heads + head) * in.queries;
  const Place<D, R> at;
  Row<D> q[R], dout[R], dq[R];
  float delta[R], shift[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int row = at.row(r);
    const bool there = row < in.queries;
    q[r].load(there ? in.out.row(batch, head, row) : nullptr, at.lane,
              in.width);  // first the output
    dout[r].load(there ? in.dout.row(batch, head, row) : nullptr, at.lane, in.width);
    delta[r] = across<D>(dout[r].share(q[r].x));
    shift[r] = there ? in.stats[places + row] * kLog2E : 0;
    if (there && at.lane == 0) in.delta[places + row] = delta[r];
    q[r].load(there ? in.q.row(batch, head, row) : nullptr, at.lane, in.width);
    q[r].scale(in.scale * kLog2E);
    dq[r].clear();
  }
  const int end = at.block_end(in.keys, in.causal), own_end = at.warp_end(in.keys, in.causal);
  for (int start = 0; start < end; start += S::kTile) {
    __syncthreads();
    fill_tile<D>(ks, in.k, batch, kv, start, in.keys, in.width);
    fill_tile<D>(vs, in.v, batch, kv, start, in.keys, in.width);
    __syncthreads();
    const int count = min(S::kTile, own_end - start);
#pragma unroll 2
    for (int j = 0; j < count; ++j) {
      float4 k[S::kOwn], v[S::kOwn];
      read<D>(k, ks[j], at.lane);
      read<D>(v, vs[j], at.lane);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const float s = across<D>(q[r].share(k)), dp = across<D>(dout[r].share(v));
        const bool seen = !in.causal || start + j <= at.row(r);
        const float p = seen ? exp2f(s - shift[r]) : 0;
        dq[r].add(p * (dp - delta[r]), k);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r)
    if (at.row(r) < in.queries)
      dq[r].store(in.dq.row(batch, head, at.row(r)), at.lane, in.width, in.scale);
}

// dk and dv, over the query heads that share the key head, in order.
template <class T, int D>
__global__ void __launch_bounds__(kRowThreads) key_gradient_kernel(Inputs<T> in) {
  using S = Shape<D>;
  constexpr int R = kGradientRows;
  __shared__ float4 qs[S::kTile][S::kFours], dos[S::kTile][S::kFours];
  __shared__ float shifts[S::kTile], deltas[S::kTile];
  const int kv = blockIdx.x % in.kv_heads, batch = blockIdx.x / in.kv_heads;
  const int group = in.heads / in.kv_heads;
  const Place<D, R> at;
  Row<D> k[R], v[R], dk[R], dv[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int row = at.row(r);
    k[r].load(row < in.keys ? in.k.row(batch, kv, row) : nullptr, at.lane, in.width);
    v[r].load(row < in.keys ? in.v.row(batch, kv, row) : nullptr, at.lane, in.width);
    dk[r].clear();
    dv[r].clear();
  }
  const float factor = in.scale * kLog2E;
  // Earlier queries see no key of the block, or of the warp.
  const int begin = in.causal ? at.block_first / S::kTile * S::kTile : 0;
  for (int head = kv * group; head < (kv + 1) * group; ++head) {
    const int64_t places = (int64_t{batch} * in.heads + head) * in.queries;
    for (int start = begin; start < in.queries; start += S::kTile) {
      __syncthreads();
      fill_tile<D>(qs, in.q, batch, head, start, in.queries, in.width);
      fill_tile<D>(dos, in.dout, batch, head, start, in.queries, in.width);
      for (int i = threadIdx.x; i < S::kTile; i += blockDim.x) {
        const bool there = start + i < in.queries;
        shifts[i] = there ? in.stats[places + start + i] * kLog2E : 0;
        deltas[i] = there ? in.delta[places + start + i] : 0;
      }
      __syncthreads();
      const int count = min(S::kTile, in.queries - start);
#pragma unroll 1
      for (int i = in.causal ? max(at.warp_first - start, 0) : 0; i < count; ++i) {
        float4 q[S::kOwn], dout[S::kOwn];
        read<D>(q, qs[i], at.lane);
        read<D>(dout, dos[i], at.lane);
        const float shift = shifts[i], delta = deltas[i];
#pragma unroll
        for (int r = 0; r < R; ++r) {
          const float s = across<D>(k[r].share(q)) * factor, dp = across<D>(v[r].share(dout));
          const bool seen = !in.causal || start + i >= at.row(r);
          const float p = seen ? exp2f(s - shift) : 0;
          dv[r].add(p, dout);
          dk[r].add(p * (dp - delta), q);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int row = at.row(r);
    if (row >= in.keys) continue;
    dk[r].store(in.dk.row(batch, kv, row), at.lane, in.width, in.scale);
    dv[r].store(in.dv.row(batch, kv, row), at.lane, in.width, 1);
  }
}

template <int D, int R, class T>
void launch(const Queue& queue, void (*kernel)(Inputs<T>), const Attention& a, float* delta,
            int64_t heads, int64_t tokens) {
  constexpr int64_t kRows = Shape<D>::kGroups * R;  // of a warp
  const int64_t warps = std::min<int64_t>(ceil_div(tokens, kRows), kRowThreads / kWarp);
  const dim3 grid(static_cast<unsigned>(a.batch * heads),
                  static_cast<unsigned>(ceil_div(tokens, warps * kRows)));
  queue.launch(kernel, grid, static_cast<unsigned>(warps * kWarp), Inputs<T>(a, delta));
}

// f(type, width of the kernel)
template <class F>
void visit(const Attention& a, F&& f) {
  const auto by_width = [&]<class T>(TypeTag<T>) {
    if (a.width <= 16) f.template operator()<T, 16>();
    else if (a.width <= 32) f.template operator()<T, 32>();
    else if (a.width <= 64) f.template operator()<T, 64>();
    else f.template operator()<T, 128>();
  };
  if (a.dtype == DType::kF32) by_width(TypeTag<float>{});
  else if (a.dtype == DType::kF16) by_width(TypeTag<Half>{});
  else by_width(TypeTag<BFloat16>{});
}

}  // namespace

bool rows_can_attend(const Attention& a) {
  return a.dtype != DType::kF64 && a.width % 4 == 0 && a.width <= 128 && a.keys <= kMostKeys &&
         a.queries <= kMostKeys && a.batch * a.heads <= 0x7fffffff;
}

void rows_attention(const Attention& a) {
  if (split_can_attend(a)) return split_attention(a);
  const Queue queue("attention", a.device);
  visit(a, [&]<class T, int D>() {
    launch<D, kOutputRows, T>(queue, &attend_kernel<T, D>, a, nullptr, a.heads, a.queries);
  });
}

void rows_attention_backward(const Attention& a) {
  if (split_can_attend(a)) return split_attention_backward(a);
  const Queue queue("attention_backward", a.device);
  const Scratch<float> delta(queue, a.batch * a.heads * a.queries);
  visit(a, [&]<class T, int D>() {
    launch<D, kGradientRows, T>(queue, &query_gradient_kernel<T, D>, a, delta.get(), a.heads,
                                a.queries);
    launch<D, kGradientRows, T>(queue, &key_gradient_kernel<T, D>, a, delta.get(), a.kv_heads,
                                a.keys);
  });
}

}  // namespace vt::cuda
