// Attention in which a warp owns 16 or 32 rows, of queries for the output and the query's gradient,
// of keys for the gradients of key and value, and products run on tensor cores. The other side
// streams through shared memory. Every sum has a fixed order, so all results are the same in every
// run. Unlike plain products these do not scale what they split: numbers below 2^-110 lose bits
// beyond 2^-134. A block with a result that is not finite makes its rows again without splitting.
#include "kernels/cuda/attention_split.h"

#include "kernels/cuda/split/attention_again.h"
#include "kernels/cuda/split/attention_tile.h"
#include "kernels/settings.h"

namespace vt::cuda {
namespace {

using namespace split;

using Inputs = AttentionInputs<float>;
constexpr int kMostWarps = 4;
constexpr int kBlockThreads = kMostWarps * kWarp;

// R sixteens of rows a warp, so that registers hold both operands' rows and the results.
template <int D>
constexpr int kSixteens = D <= 32 ? 2 : 1;

// Where a warp stands. With a causal mask the warps of a block have unequal work; every other block
// has them the other way round, since warps of one number share a scheduler.
template <int R>
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
    block_rows = warps * R * 16;
    block_first = static_cast<int>(blockIdx.y) * block_rows;
    first = block_first + warp * R * 16;
  }
  __device__ int row(int sixteen, int half) const { return first + sixteen * 16 + half * 8 + g; }
};

// Whether results of a thread's rows, of which there are `count`, are not finite.
template <int R, int N>
__device__ __forceinline__ bool goes_wrong(const Place<R>& at, int count,
                                           const float (&x)[R][N][4]) {
  bool wrong = false;
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) wrong |= at.row(r, i / 2) < count && !isfinite(x[r][n][i]);
  return wrong;
}

template <int D, int R>
__global__ void __launch_bounds__(kBlockThreads, 2) attend_kernel(const Inputs in) {
  await_earlier();
  constexpr int kChunk = 32;  // tokens between two looks at the maximum
  __shared__ TokenTile<D> ks, vs;
  const Place<R> at(in.heads);
  const int kv = at.head / (in.heads / in.kv_heads);
  LeftPieces q[R][D / 16];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    HeadRows<D> rows;
    rows.load(in.q, at.batch, at.head, at.first + r * 16, in.queries, in.width, at.g, at.t);
    rows.split(q[r], in.scale * kLog2E);
  }
  float sum[R][D / 8][4] = {}, highest[R][2], total[R][2] = {};
#pragma unroll
  for (int r = 0; r < R; ++r) highest[r][0] = highest[r][1] = -INFINITY;

  const int end = in.causal ? min(at.block_first + at.block_rows, in.keys) : in.keys;
  const int own_end = in.causal ? min(at.first + R * 16, in.keys) : in.keys;
  for (int start = 0; start < end; start += kTokens) {
    __syncthreads();
    ks.load(in.k, at.batch, kv, start, in.keys, in.width);
    vs.load(in.v, at.batch, kv, start, in.keys, in.width);
    end_copies();
    await_copies<0>();
    __syncthreads();
#pragma unroll 1
    for (int j = 0; j < kTokens && start + j < own_end; j += kChunk) {
      float s[R][kChunk / 8][4] = {};
#pragma unroll
      for (int f = 0; f < D / 16; ++f) {
        RightPieces k[kChunk / 8];
#pragma unroll
        for (int n = 0; n < kChunk / 8; ++n) ks.along_features(k[n], j + n * 8, f * 16, at.g, at.t);
#pragma unroll
        for (int r = 0; r < R; ++r) multiply_add<kChunk / 8>(s[r], q[r][f], k);
      }
#pragma unroll
      for (int r = 0; r < R; ++r)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int visible = in.causal ? min(at.row(r, half) + 1, in.keys) : in.keys;
          float top = -INFINITY;
#pragma unroll
          for (int n = 0; n < kChunk / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
              float& x = s[r][n][half * 2 + i];
              if (start + j + n * 8 + 2 * at.t + i >= visible) x = -INFINITY;
              top = fmaxf(top, x);
            }
          top = fmaxf(row_max(top), highest[r][half]);
          const float base = finite_base(top), factor = exp2f(highest[r][half] - base);
          highest[r][half] = top;
          total[r][half] *= factor;
#pragma unroll
          for (int n = 0; n < D / 8; ++n) {
            sum[r][n][half * 2] *= factor;
            sum[r][n][half * 2 + 1] *= factor;
          }
#pragma unroll
          for (int n = 0; n < kChunk / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
              float& x = s[r][n][half * 2 + i];
              x = exp2f(x - base);
              total[r][half] += x;
            }
        }
#pragma unroll
      for (int h = 0; h < kChunk / 16; ++h) {
        LeftPieces p[R];
#pragma unroll
        for (int r = 0; r < R; ++r) p[r] = split_results(s[r][h * 2], s[r][h * 2 + 1]);
#pragma unroll
        for (int f = 0; f < D / 32; ++f) {
          RightPieces v[4];
          vs.along_tokens(v, j + h * 16, f * 32, at.g, at.t);
#pragma unroll
          for (int r = 0; r < R; ++r) multiply_add<4>(&sum[r][f * 4], p[r], v);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float whole = row_sum(total[r][half]);
      factor[half] = inverse_of(whole);
      const int row = at.row(r, half);
      if (at.t == 0 && row < in.queries)
        in.stats[(int64_t{at.batch} * in.heads + at.head) * in.queries + row] =
            log_of(highest[r][half], whole);
    }
    store_rows<D>(in.out, at.batch, at.head, at.first + r * 16, in.queries, in.width, at.g, at.t,
                  sum[r], factor);
  }
  bool wrong = goes_wrong<R>(at, in.queries, sum);
#pragma unroll
  for (int r = 0; r < R; ++r) wrong |= !isfinite(total[r][0]) || !isfinite(total[r][1]);
  if (__syncthreads_or(wrong)) attend_again(in, at.batch, at.head, at.block_first, at.block_rows);
}

// s += left * tile^T over features, for 16 tokens.
template <int D, int R>
__device__ __forceinline__ void score(float (&s)[R][2][4], const LeftPieces (&left)[R][D / 16],
                                      const TokenTile<D>& tile, int token, int g, int t) {
#pragma unroll
  for (int f = 0; f < D / 16; ++f) {
    RightPieces right[2];
    tile.along_features(right[0], token, f * 16, g, t);
    tile.along_features(right[1], token + 8, f * 16, g, t);
#pragma unroll
    for (int r = 0; r < R; ++r) multiply_add<2>(s[r], left[r][f], right);
  }
}

// sum += x * tile over 16 tokens.
template <int D, int R>
__device__ __forceinline__ void gather(float (&sum)[R][D / 8][4], const float (&x)[R][2][4],
                                       const TokenTile<D>& tile, int token, int g, int t) {
  LeftPieces left[R];
#pragma unroll
  for (int r = 0; r < R; ++r) left[r] = split_results(x[r][0], x[r][1]);
#pragma unroll
  for (int f = 0; f < D / 32; ++f) {
    RightPieces right[4];
    tile.along_tokens(right, token, f * 32, g, t);
#pragma unroll
    for (int r = 0; r < R; ++r) multiply_add<4>(&sum[r][f * 4], left[r], right);
  }
}

// dq, and delta = sum of dout * out of each row.
template <int D, int R>
__global__ void __launch_bounds__(kBlockThreads, 2) query_gradient_kernel(const Inputs in) {
  await_earlier();
  __shared__ TokenTile<D> ks, vs;
  const Place<R> at(in.heads);
  const int kv = at.head / (in.heads / in.kv_heads);
  const int64_t places = (int64_t{at.batch} * in.heads + at.head) * in.queries;
  LeftPieces q[R][D / 16], dout[R][D / 16];
  float dq[R][D / 8][4] = {}, delta[R][2], shift[R][2];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    HeadRows<D> rows, outs;
    const int first = at.first + r * 16;
    rows.load(in.dout, at.batch, at.head, first, in.queries, in.width, at.g, at.t);
    outs.load(in.out, at.batch, at.head, first, in.queries, in.width, at.g, at.t);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float dot = 0;
#pragma unroll
      for (int f = 0; f < D / 16; ++f)
#pragma unroll
        for (int i = 0; i < 4; ++i) dot = fmaf(rows.v[half][f][i], outs.v[half][f][i], dot);
      delta[r][half] = row_sum(dot);
      const int row = at.row(r, half);
      shift[r][half] = row < in.queries ? in.stats[places + row] * kLog2E : 0;
      if (at.t == 0 && row < in.queries) in.delta[places + row] = delta[r][half];
    }
    rows.split(dout[r], 1);
    rows.load(in.q, at.batch, at.head, first, in.queries, in.width, at.g, at.t);
    rows.split(q[r], in.scale * kLog2E);
  }
  const int end = in.causal ? min(at.block_first + at.block_rows, in.keys) : in.keys;
  const int own_end = in.causal ? min(at.first + R * 16, in.keys) : in.keys;
  for (int start = 0; start < end; start += kTokens) {
    __syncthreads();
    ks.load(in.k, at.batch, kv, start, in.keys, in.width);
    vs.load(in.v, at.batch, kv, start, in.keys, in.width);
    end_copies();
    await_copies<0>();
    __syncthreads();
#pragma unroll 1
    for (int j = 0; j < kTokens && start + j < own_end; j += 16) {
      float s[R][2][4] = {}, ds[R][2][4] = {};
      score<D, R>(s, q, ks, j, at.g, at.t);
      score<D, R>(ds, dout, vs, j, at.g, at.t);
#pragma unroll
      for (int r = 0; r < R; ++r)
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int key = start + j + n * 8 + 2 * at.t + i % 2;
            const bool seen = key < in.keys && (!in.causal || key <= at.row(r, i / 2));
            const float p = seen ? exp2f(s[r][n][i] - shift[r][i / 2]) : 0;
            ds[r][n][i] = p * (ds[r][n][i] - delta[r][i / 2]);
          }
      gather<D, R>(dq, ds, ks, j, at.g, at.t);
    }
  }
  const float factor[2] = {in.scale, in.scale};
#pragma unroll
  for (int r = 0; r < R; ++r)
    store_rows<D>(in.dq, at.batch, at.head, at.first + r * 16, in.queries, in.width, at.g, at.t,
                  dq[r], factor);
  if (__syncthreads_or(goes_wrong<R>(at, in.queries, dq)))
    query_gradient_again(in, at.batch, at.head, at.block_first, at.block_rows);
}

// dk and dv, over the query heads that share the key head, in order.
template <int D, int R>
__global__ void __launch_bounds__(kBlockThreads, 2) key_gradient_kernel(const Inputs in) {
  await_earlier();
  __shared__ TokenTile<D> qs, dos;
  __shared__ float shifts[kTokens], deltas[kTokens];
  const Place<R> at(in.kv_heads);
  const int group = in.heads / in.kv_heads;
  LeftPieces k[R][D / 16], v[R][D / 16];
  float dk[R][D / 8][4] = {}, dv[R][D / 8][4] = {};
#pragma unroll
  for (int r = 0; r < R; ++r) {
    HeadRows<D> rows;
    const int first = at.first + r * 16;
    rows.load(in.k, at.batch, at.head, first, in.keys, in.width, at.g, at.t);
    rows.split(k[r], in.scale * kLog2E);
    rows.load(in.v, at.batch, at.head, first, in.keys, in.width, at.g, at.t);
    rows.split(v[r], 1);
  }
  // Earlier queries see no key of the block, or of the warp.
  const int begin = in.causal ? at.block_first / kTokens * kTokens : 0;
  for (int head = at.head * group; head < (at.head + 1) * group; ++head) {
    const int64_t places = (int64_t{at.batch} * in.heads + head) * in.queries;
    for (int start = begin; start < in.queries; start += kTokens) {
      __syncthreads();
      qs.load(in.q, at.batch, head, start, in.queries, in.width);
      dos.load(in.dout, at.batch, head, start, in.queries, in.width);
      end_copies();
      for (int i = static_cast<int>(threadIdx.x); i < kTokens; i += static_cast<int>(blockDim.x)) {
        const bool there = start + i < in.queries;
        shifts[i] = there ? in.stats[places + start + i] * kLog2E : 0;
        deltas[i] = there ? in.delta[places + start + i] : 0;
      }
      await_copies<0>();
      __syncthreads();
#pragma unroll 1
      for (int j = in.causal ? max(at.first - start, 0) : 0; j < kTokens && start + j < in.queries;
           j += 16) {
        float p[R][2][4] = {}, ds[R][2][4] = {};
        score<D, R>(p, k, qs, j, at.g, at.t);
        score<D, R>(ds, v, dos, j, at.g, at.t);
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int query = j + n * 8 + 2 * at.t + i;
            const float shift = shifts[query], delta = deltas[query];
#pragma unroll
            for (int r = 0; r < R; ++r)
#pragma unroll
              for (int half = 0; half < 2; ++half) {
                const int e = half * 2 + i;
                const bool seen =
                    start + query < in.queries && (!in.causal || start + query >= at.row(r, half));
                p[r][n][e] = seen ? exp2f(p[r][n][e] - shift) : 0;
                ds[r][n][e] = p[r][n][e] * (ds[r][n][e] - delta);
              }
          }
        gather<D, R>(dv, p, dos, j, at.g, at.t);
        gather<D, R>(dk, ds, qs, j, at.g, at.t);
      }
    }
  }
  const float factor[2] = {in.scale, in.scale}, one[2] = {1, 1};
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int first = at.first + r * 16;
    store_rows<D>(in.dk, at.batch, at.head, first, in.keys, in.width, at.g, at.t, dk[r], factor);
    store_rows<D>(in.dv, at.batch, at.head, first, in.keys, in.width, at.g, at.t, dv[r], one);
  }
  const bool wrong = goes_wrong<R>(at, in.keys, dk) || goes_wrong<R>(at, in.keys, dv);
  if (__syncthreads_or(wrong))
    key_gradient_again(in, at.batch, at.head, at.block_first, at.block_rows);
}

template <int R>
void launch(const Queue& queue, void (*kernel)(Inputs), const Attention& a, float* delta,
            int64_t heads, int64_t tokens) {
  const int64_t warps = std::min<int64_t>(ceil_div(tokens, R * 16), kMostWarps);
  const dim3 grid(static_cast<unsigned>(a.batch * heads),
                  static_cast<unsigned>(ceil_div(tokens, warps * R * 16)));
  queue.launch_early(kernel, grid, static_cast<unsigned>(warps * kWarp), Inputs(a, delta));
}

template <int D>
void backward(const Queue& queue, const Attention& a, float* delta) {
  constexpr int R = kSixteens<D>;
  launch<R>(queue, &query_gradient_kernel<D, R>, a, delta, a.heads, a.queries);
  launch<R>(queue, &key_gradient_kernel<D, R>, a, delta, a.kv_heads, a.keys);
}

}  // namespace

bool split_can_attend(const Attention& a) {
  return a.dtype == DType::kF32 && a.width <= 64 &&
         kernel_settings().float32_products == Float32Products::kBF16x6;
}

void split_attention(const Attention& a) {
  const Queue queue("attention", a.device);
  constexpr int kNarrow = kSixteens<32>, kWide = kSixteens<64>;
  if (a.width <= 32)
    launch<kNarrow>(queue, &attend_kernel<32, kNarrow>, a, nullptr, a.heads, a.queries);
  else launch<kWide>(queue, &attend_kernel<64, kWide>, a, nullptr, a.heads, a.queries);
}

void split_attention_backward(const Attention& a) {
  const Queue queue("attention_backward", a.device);
  const Scratch<float> delta(queue, a.batch * a.heads * a.queries);
  if (a.width <= 32) backward<32>(queue, a, delta.get());
  else backward<64>(queue, a, delta.get());
}

}  // namespace vt::cuda
