// Attention in which one thread, or a few lanes of a warp, own one row: of queries for the output
// and the query's gradient, of keys for the gradients of key and value. The other side streams
// through shared memory. Every sum has a fixed order, so all results are the same in every run.
#include "kernels/cuda/attention_rows.h"

#include "kernels/cuda/launch.h"

namespace vt::cuda {
namespace {

constexpr int kRowThreads = 128;
constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
constexpr int64_t kMostKeys = 1024;  // beyond, float32 products through cuBLASLt are faster

// How a row of D features is spread: L lanes of 4 * N features each. Lane l has the fours
// l, l + L, l + 2L, ...: lanes then read different banks.
template <int D>
struct Shape {
  static constexpr int kLanes = D <= 32 ? 1 : D / 32;
  static constexpr int kFours = D / 4;             // of a row
  static constexpr int kOwn = kFours / kLanes;     // of a lane
  static constexpr int kTile = D <= 64 ? 64 : 32;  // rows in shared memory at a time
};

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
  // The inner product with a row in shared memory, the same number in every lane of the row.
  __device__ float with(const float4* shared, int lane) const {
    float sum = 0;
#pragma unroll
    for (int c = 0; c < kOwn; ++c) sum = dot(x[c], shared[c * kLanes + lane], sum);
    return across(sum);
  }
  __device__ float with(const Row& other) const {
    float sum = 0;
#pragma unroll
    for (int c = 0; c < kOwn; ++c) sum = dot(x[c], other.x[c], sum);
    return across(sum);
  }
  __device__ void add(float factor, const float4* shared, int lane) {
#pragma unroll
    for (int c = 0; c < kOwn; ++c) add_scaled(x[c], factor, shared[c * kLanes + lane]);
  }
  __device__ void scale(float factor) {
#pragma unroll
    for (int c = 0; c < kOwn; ++c) x[c] = times(x[c], factor);
  }

 private:
  static __device__ float across(float sum) {
#pragma unroll
    for (int step = 1; step < kLanes; step *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    return sum;
  }
};

// What the kernels read of an Attention, with the tensors of one batch and head.
template <class T>
struct Heads {
  T* data;
  int64_t batch_stride, head_stride, token_stride;
  explicit Heads(const HeadedTensor& t)
      : data(static_cast<T*>(t.data)),
        batch_stride(t.batch_stride),
        head_stride(t.head_stride),
        token_stride(t.token_stride) {}
  __device__ T* row(int batch, int head, int64_t token) const {
    return data + batch * batch_stride + head * head_stride + token * token_stride;
  }
};
template <class T>
struct Inputs {
  Heads<T> q, k, v, out, dout, dq, dk, dv;
  float* stats;
  float* delta;  // [batch, heads, queries]
  int heads, kv_heads, queries, keys, width;
  float scale;
  bool causal;
  Inputs(const Attention& a, float* delta_in)
      : q(a.q),
        k(a.k),
        v(a.v),
        out(a.out),
        dout(HeadedTensor{const_cast<void*>(a.dout), a.out.batch_stride, a.out.head_stride,
                          a.out.token_stride}),
        dq(a.dq),
        dk(a.dk),
        dv(a.dv),
        stats(static_cast<float*>(a.stats)),
        delta(delta_in),
        heads(static_cast<int>(a.heads)),
        kv_heads(static_cast<int>(a.kv_heads)),
        queries(static_cast<int>(a.queries)),
        keys(static_cast<int>(a.keys)),
        width(static_cast<int>(a.width)),
        scale(static_cast<float>(a.scale)),
        causal(a.causal) {}
};

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
  constexpr int kChunk = 8;  // scores between two looks at the maximum
  __shared__ float4 ks[S::kTile][S::kFours], vs[S::kTile][S::kFours];
  const int head = blockIdx.x % in.heads, batch = blockIdx.x / in.heads;
  const int kv = head / (in.heads / in.kv_heads), lane = threadIdx.x % S::kLanes;
  const int rows = blockDim.x / S::kLanes, first = blockIdx.y * rows;
  const int row = first + threadIdx.x / S::kLanes;
  const bool there = row < in.queries;
  const int visible = in.causal ? min(row + 1, in.keys) : in.keys;
  const int last = min(first + rows, in.queries);
  const int end = in.causal ? min(last, in.keys) : in.keys;  // of the block
  Row<D> q, sum;
  q.load(there ? in.q.row(batch, head, row) : nullptr, lane, in.width);
  q.scale(in.scale * kLog2E);
  sum.clear();
  float highest = -INFINITY, total = 0;
  for (int start = 0; start < end; start += S::kTile) {
    __syncthreads();
    fill_tile<D>(ks, in.k, batch, kv, start, in.keys, in.width);
    fill_tile<D>(vs, in.v, batch, kv, start, in.keys, in.width);
    __syncthreads();
    const int count = min(S::kTile, end - start);
    for (int j = 0; j < count; j += kChunk) {
      float s[kChunk], top = -INFINITY;
#pragma unroll
      for (int u = 0; u < kChunk; ++u) {
        s[u] = q.with(ks[j + u], lane);
        if (start + j + u >= visible) s[u] = -INFINITY;
        top = fmaxf(top, s[u]);
      }
      if (top > highest) {
        const float factor = exp2f(highest - top);
        sum.scale(factor);
        total *= factor;
        highest = top;
      }
#pragma unroll
      for (int u = 0; u < kChunk; ++u) {
        const float p = exp2f(s[u] - highest);
        total += p;
        sum.add(p, vs[j + u], lane);
      }
    }
  }
  if (!there) return;
  sum.store(in.out.row(batch, head, row), lane, in.width, 1 / total);
  if (lane == 0)
    in.stats[(int64_t{batch} * in.heads + head) * in.queries + row] =
        (highest + log2f(total)) * kLn2;
}

// dq, and delta = sum of dout * out of each row.
template <class T, int D>
__global__ void __launch_bounds__(kRowThreads) query_gradient_kernel(Inputs<T> in) {
  using S = Shape<D>;
  __shared__ float4 ks[S::kTile][S::kFours], vs[S::kTile][S::kFours];
  const int head = blockIdx.x % in.heads, batch = blockIdx.x / in.heads;
  const int kv = head / (in.heads / in.kv_heads), lane = threadIdx.x % S::kLanes;
  const int rows = blockDim.x / S::kLanes, first = blockIdx.y * rows;
  const int row = first + threadIdx.x / S::kLanes;
  const bool there = row < in.queries;
  const int visible = !there ? 0 : in.causal ? min(row + 1, in.keys) : in.keys;
  const int last = min(first + rows, in.queries);
  const int end = in.causal ? min(last, in.keys) : in.keys;
  const int64_t place = (int64_t{batch} * in.heads + head) * in.queries + row;
  Row<D> q, dout, dq;
  q.load(there ? in.out.row(batch, head, row) : nullptr, lane, in.width);  // the output, first
  dout.load(there ? in.dout.row(batch, head, row) : nullptr, lane, in.width);
  const float delta = dout.with(q);
  const float shift = there ? in.stats[place] * kLog2E : 0;
  if (there && lane == 0) in.delta[place] = delta;
  q.load(there ? in.q.row(batch, head, row) : nullptr, lane, in.width);
  q.scale(in.scale * kLog2E);
  dq.clear();
  for (int start = 0; start < end; start += S::kTile) {
    __syncthreads();
    fill_tile<D>(ks, in.k, batch, kv, start, in.keys, in.width);
    fill_tile<D>(vs, in.v, batch, kv, start, in.keys, in.width);
    __syncthreads();
    const int count = min(S::kTile, end - start);
#pragma unroll 4
    for (int j = 0; j < count; ++j) {
      const float s = q.with(ks[j], lane), dp = dout.with(vs[j], lane);
      const float p = start + j < visible ? exp2f(s - shift) : 0;
      dq.add(p * (dp - delta), ks[j], lane);
    }
  }
  if (there) dq.store(in.dq.row(batch, head, row), lane, in.width, in.scale);
}

// dk and dv, over the query heads that share the key head, in order.
template <class T, int D>
__global__ void __launch_bounds__(kRowThreads) key_gradient_kernel(Inputs<T> in) {
  using S = Shape<D>;
  __shared__ float4 qs[S::kTile][S::kFours], dos[S::kTile][S::kFours];
  __shared__ float shifts[S::kTile], deltas[S::kTile];
  const int kv = blockIdx.x % in.kv_heads, batch = blockIdx.x / in.kv_heads;
  const int group = in.heads / in.kv_heads, lane = threadIdx.x % S::kLanes;
  const int first = blockIdx.y * (blockDim.x / S::kLanes);
  const int row = first + threadIdx.x / S::kLanes;
  const bool there = row < in.keys;
  Row<D> k, v, dk, dv;
  k.load(there ? in.k.row(batch, kv, row) : nullptr, lane, in.width);
  v.load(there ? in.v.row(batch, kv, row) : nullptr, lane, in.width);
  dk.clear();
  dv.clear();
  const float factor = in.scale * kLog2E;
  const int begin = in.causal ? first / S::kTile * S::kTile : 0;  // earlier queries see no key here
  for (int head = kv * group; head < (kv + 1) * group; ++head) {
    const int64_t places = (int64_t{batch} * in.heads + head) * in.queries;
    for (int start = begin; start < in.queries; start += S::kTile) {
      __syncthreads();
      fill_tile<D>(qs, in.q, batch, head, start, in.queries, in.width);
      fill_tile<D>(dos, in.dout, batch, head, start, in.queries, in.width);
      for (int i = threadIdx.x; i < S::kTile; i += blockDim.x) {
        const bool is_query = start + i < in.queries;
        shifts[i] = is_query ? in.stats[places + start + i] * kLog2E : 0;
        deltas[i] = is_query ? in.delta[places + start + i] : 0;
      }
      __syncthreads();
      const int count = min(S::kTile, in.queries - start);
#pragma unroll 1
      for (int i = 0; i < count; ++i) {
        const float s = k.with(qs[i], lane) * factor, dp = v.with(dos[i], lane);
        const float p = !in.causal || start + i >= row ? exp2f(s - shifts[i]) : 0;
        dv.add(p, dos[i], lane);
        dk.add(p * (dp - deltas[i]), qs[i], lane);
      }
    }
  }
  if (!there) return;
  dk.store(in.dk.row(batch, kv, row), lane, in.width, in.scale);
  dv.store(in.dv.row(batch, kv, row), lane, in.width, 1);
}

template <int D, class T>
void launch(const Queue& queue, void (*kernel)(Inputs<T>), const Attention& a, float* delta,
            int64_t heads, int64_t tokens) {
  const int64_t lanes = ceil_div(tokens * Shape<D>::kLanes, kWarp) * kWarp;
  const auto threads = static_cast<unsigned>(std::min<int64_t>(lanes, kRowThreads));
  const int64_t rows = threads / Shape<D>::kLanes;
  const dim3 grid(static_cast<unsigned>(a.batch * heads),
                  static_cast<unsigned>(ceil_div(tokens, rows)));
  queue.launch(kernel, grid, threads, Inputs<T>(a, delta));
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
  const Queue queue("attention", a.device);
  visit(a, [&]<class T, int D>() {
    launch<D, T>(queue, &attend_kernel<T, D>, a, nullptr, a.heads, a.queries);
  });
}

void rows_attention_backward(const Attention& a) {
  const Queue queue("attention_backward", a.device);
  const Scratch<float> delta(queue, a.batch * a.heads * a.queries);
  visit(a, [&]<class T, int D>() {
    launch<D, T>(queue, &query_gradient_kernel<T, D>, a, delta.get(), a.heads, a.queries);
    launch<D, T>(queue, &key_gradient_kernel<T, D>, a, delta.get(), a.kv_heads, a.keys);
  });
}

}  // namespace vt::cuda
