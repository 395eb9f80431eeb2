// Attention in which a warp owns 16 rows, of queries for the output and the query's gradient, of
// keys for the gradients of key and value, and products run on tensor cores. The other side streams
// through shared memory. Every sum has a fixed order, so all results are the same in every run.
// Unlike plain products these do not scale what they split: numbers below 2^-110 lose bits beyond
// 2^-134, and an infinity becomes NaN in all results of its row.
#include "kernels/cuda/attention_split.h"

#include "kernels/cuda/split/attention_tile.h"
#include "kernels/settings.h"

namespace vt::cuda {
namespace {

using namespace split;

using Inputs = AttentionInputs<float>;
constexpr int kMostWarps = 4, kRows = 16;  // of a block, of a warp
constexpr int kBlockThreads = kMostWarps * kWarp;
// As many blocks as registers allow: products of one warp go on while another one splits.
template <int D>
constexpr int kBlocks = D <= 32 ? 3 : 2;

// Where a warp stands. With a causal mask the warps of a block have unequal work; every other block
// has them the other way round, since warps of one number share a scheduler.
struct Place {
  int g, t, batch, head, first, block_first, block_rows;
  __device__ explicit Place(int heads) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    int warp = static_cast<int>(threadIdx.x) / kWarp;
    if (blockIdx.x % 2) warp = warps - 1 - warp;
    g = lane / 4;
    t = lane % 4;
    head = static_cast<int>(blockIdx.x) % heads;
    batch = static_cast<int>(blockIdx.x) / heads;
    block_rows = warps * kRows;
    block_first = static_cast<int>(blockIdx.y) * block_rows;
    first = block_first + warp * kRows;
  }
  __device__ int row(int half) const { return first + half * 8 + g; }
};

// s += left * tile^T over features, for kCount tokens.
template <int D, int kCount>
__device__ __forceinline__ void score(float (&s)[kCount / 8][4], const LeftPieces (&left)[D / 16],
                                      const TokenTile<D>& tile, int token) {
#pragma unroll
  for (int f = 0; f < D / 16; ++f)
#pragma unroll
    for (int n = 0; n < kCount / 16; ++n) {
      RightPieces right[2];
      tile.along_features(right, token + n * 16, f * 16);
      multiply_add<2>(s + n * 2, left[f], right);
    }
}

// sum += x * tile over 16 tokens.
template <int D>
__device__ __forceinline__ void gather(float (&sum)[D / 8][4], const float (&low)[4],
                                       const float (&high)[4], const TokenTile<D>& tile,
                                       int token) {
  const LeftPieces left = split_results(low, high);
#pragma unroll
  for (int f = 0; f < D / 16; ++f) {
    RightPieces right[2];
    tile.along_tokens(right, token, f * 16);
    multiply_add<2>(sum + f * 2, left, right);
  }
}

template <int D>
__global__ void __launch_bounds__(kBlockThreads, kBlocks<D>) attend_kernel(const Inputs in) {
  constexpr int kChunk = 32;  // tokens between two looks at the maximum
  __shared__ TokenTile<D> ks, vs;
  const Place at(in.heads);
  const int kv = at.head / (in.heads / in.kv_heads);
  LeftPieces q[D / 16];
  {
    HeadRows<D> rows;
    rows.load(in.q, at.batch, at.head, at.first, in.queries, in.width, at.g, at.t);
    rows.split(q, in.scale * kLog2E);
  }
  float sum[D / 8][4] = {}, highest[2] = {-INFINITY, -INFINITY}, total[2] = {};

  const int end = in.causal ? min(at.block_first + at.block_rows, in.keys) : in.keys;
  const int own_end = in.causal ? min(at.first + kRows, in.keys) : in.keys;
  for (int start = 0; start < end; start += kTokens) {
    __syncthreads();
    ks.load(in.k, at.batch, kv, start, in.keys, in.width);
    vs.load(in.v, at.batch, kv, start, in.keys, in.width);
    __syncthreads();
#pragma unroll 1
    for (int j = 0; j < kTokens && start + j < own_end; j += kChunk) {
      float s[kChunk / 8][4] = {};
      score<D, kChunk>(s, q, ks, j);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int visible = in.causal ? min(at.row(half) + 1, in.keys) : in.keys;
        float top = -INFINITY;
#pragma unroll
        for (int n = 0; n < kChunk / 8; ++n)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            float& x = s[n][half * 2 + i];
            if (start + j + n * 8 + 2 * at.t + i >= visible) x = -INFINITY;
            top = fmaxf(top, x);
          }
        top = fmaxf(row_max(top), highest[half]);
        const float factor = exp2f(highest[half] - top);
        highest[half] = top;
        total[half] *= factor;
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
          sum[n][half * 2] *= factor;
          sum[n][half * 2 + 1] *= factor;
        }
#pragma unroll
        for (int n = 0; n < kChunk / 8; ++n)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            float& x = s[n][half * 2 + i];
            x = exp2f(x - top);
            total[half] += x;
          }
      }
#pragma unroll
      for (int h = 0; h < kChunk / 16; ++h) gather<D>(sum, s[h * 2], s[h * 2 + 1], vs, j + h * 16);
    }
  }
  float factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float whole = row_sum(total[half]);
    factor[half] = 1 / whole;
    const int row = at.row(half);
    if (at.t == 0 && row < in.queries)
      in.stats[(int64_t{at.batch} * in.heads + at.head) * in.queries + row] =
          (highest[half] + log2f(whole)) * kLn2;
  }
  store_rows<D>(in.out, at.batch, at.head, at.first, in.queries, in.width, at.g, at.t, sum, factor);
}

// dq, and delta = sum of dout * out of each row.
template <int D>
__global__ void __launch_bounds__(kBlockThreads, kBlocks<D>)
    query_gradient_kernel(const Inputs in) {
  __shared__ TokenTile<D> ks, vs;
  const Place at(in.heads);
  const int kv = at.head / (in.heads / in.kv_heads);
  const int64_t places = (int64_t{at.batch} * in.heads + at.head) * in.queries;
  LeftPieces q[D / 16], dout[D / 16];
  float dq[D / 8][4] = {}, delta[2], shift[2];
  {
    HeadRows<D> rows, outs;
    rows.load(in.dout, at.batch, at.head, at.first, in.queries, in.width, at.g, at.t);
    outs.load(in.out, at.batch, at.head, at.first, in.queries, in.width, at.g, at.t);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float dot = 0;
#pragma unroll
      for (int f = 0; f < D / 16; ++f)
#pragma unroll
        for (int i = 0; i < 4; ++i) dot = fmaf(rows.v[half][f][i], outs.v[half][f][i], dot);
      delta[half] = row_sum(dot);
      const int row = at.row(half);
      shift[half] = row < in.queries ? in.stats[places + row] * kLog2E : 0;
      if (at.t == 0 && row < in.queries) in.delta[places + row] = delta[half];
    }
    rows.split(dout, 1);
    rows.load(in.q, at.batch, at.head, at.first, in.queries, in.width, at.g, at.t);
    rows.split(q, in.scale * kLog2E);
  }
  const int end = in.causal ? min(at.block_first + at.block_rows, in.keys) : in.keys;
  const int own_end = in.causal ? min(at.first + kRows, in.keys) : in.keys;
  for (int start = 0; start < end; start += kTokens) {
    __syncthreads();
    ks.load(in.k, at.batch, kv, start, in.keys, in.width);
    vs.load(in.v, at.batch, kv, start, in.keys, in.width);
    __syncthreads();
#pragma unroll 1
    for (int j = 0; j < kTokens && start + j < own_end; j += 16) {
      float s[2][4] = {}, ds[2][4] = {};
      score<D, 16>(s, q, ks, j);
      score<D, 16>(ds, dout, vs, j);
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = start + j + n * 8 + 2 * at.t + i % 2;
          const bool seen = key < in.keys && (!in.causal || key <= at.row(i / 2));
          const float p = seen ? exp2f(s[n][i] - shift[i / 2]) : 0;
          ds[n][i] = p * (ds[n][i] - delta[i / 2]);
        }
      gather<D>(dq, ds[0], ds[1], ks, j);
    }
  }
  const float factor[2] = {in.scale, in.scale};
  store_rows<D>(in.dq, at.batch, at.head, at.first, in.queries, in.width, at.g, at.t, dq, factor);
}

// dk and dv, over the query heads that share the key head, in order.
template <int D>
__global__ void __launch_bounds__(kBlockThreads, kBlocks<D>) key_gradient_kernel(const Inputs in) {
  __shared__ TokenTile<D> qs, dos;
  const Place at(in.kv_heads);
  const int group = in.heads / in.kv_heads;
  LeftPieces k[D / 16], v[D / 16];
  float dk[D / 8][4] = {}, dv[D / 8][4] = {};
  {
    HeadRows<D> rows;
    rows.load(in.k, at.batch, at.head, at.first, in.keys, in.width, at.g, at.t);
    rows.split(k, in.scale * kLog2E);
    rows.load(in.v, at.batch, at.head, at.first, in.keys, in.width, at.g, at.t);
    rows.split(v, 1);
  }
  // Earlier queries see no key of the block, or of the warp.
  const int begin = in.causal ? at.block_first / kTokens * kTokens : 0;
  for (int head = at.head * group; head < (at.head + 1) * group; ++head) {
    const int64_t places = (int64_t{at.batch} * in.heads + head) * in.queries;
    for (int start = begin; start < in.queries; start += kTokens) {
      __syncthreads();
      qs.load(in.q, at.batch, head, start, in.queries, in.width);
      dos.load(in.dout, at.batch, head, start, in.queries, in.width);
      __syncthreads();
#pragma unroll 1
      for (int j = in.causal ? max(at.first - start, 0) : 0; j < kTokens && start + j < in.queries;
           j += 16) {
        float p[2][4] = {}, ds[2][4] = {}, shift[2][2], delta[2][2];
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int query = start + j + n * 8 + 2 * at.t + i;
            const bool there = query < in.queries;
            shift[n][i] = there ? in.stats[places + query] * kLog2E : INFINITY;
            delta[n][i] = there ? in.delta[places + query] : 0;
          }
        score<D, 16>(p, k, qs, j);
        score<D, 16>(ds, v, dos, j);
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int query = start + j + n * 8 + 2 * at.t + i % 2;
            const bool seen = !in.causal || query >= at.row(i / 2);
            p[n][i] = seen ? exp2f(p[n][i] - shift[n][i % 2]) : 0;
            ds[n][i] = p[n][i] * (ds[n][i] - delta[n][i % 2]);
          }
        gather<D>(dv, p[0], p[1], dos, j);
        gather<D>(dk, ds[0], ds[1], qs, j);
      }
    }
  }
  const float factor[2] = {in.scale, in.scale}, one[2] = {1, 1};
  store_rows<D>(in.dk, at.batch, at.head, at.first, in.keys, in.width, at.g, at.t, dk, factor);
  store_rows<D>(in.dv, at.batch, at.head, at.first, in.keys, in.width, at.g, at.t, dv, one);
}

void launch(const Queue& queue, void (*kernel)(Inputs), const Attention& a, float* delta,
            int64_t heads, int64_t tokens) {
  const int64_t warps = std::min<int64_t>(ceil_div(tokens, kRows), kMostWarps);
  const dim3 grid(static_cast<unsigned>(a.batch * heads),
                  static_cast<unsigned>(ceil_div(tokens, warps * kRows)));
  queue.launch(kernel, grid, static_cast<unsigned>(warps * kWarp), Inputs(a, delta));
}

template <int D>
void backward(const Queue& queue, const Attention& a, float* delta) {
  launch(queue, &query_gradient_kernel<D>, a, delta, a.heads, a.queries);
  launch(queue, &key_gradient_kernel<D>, a, delta, a.kv_heads, a.keys);
}

}  // namespace

bool split_can_attend(const Attention& a) {
  return a.dtype == DType::kF32 && a.width <= 64 &&
         kernel_settings().float32_products == Float32Products::kBF16x6;
}

void split_attention(const Attention& a) {
  const Queue queue("attention", a.device);
  const auto kernel = a.width <= 32 ? &attend_kernel<32> : &attend_kernel<64>;
  launch(queue, kernel, a, nullptr, a.heads, a.queries);
}

void split_attention_backward(const Attention& a) {
  const Queue queue("attention_backward", a.device);
  const Scratch<float> delta(queue, a.batch * a.heads * a.queries);
  if (a.width <= 32) backward<32>(queue, a, delta.get());
  else backward<64>(queue, a, delta.get());
}

}  // namespace vt::cuda
