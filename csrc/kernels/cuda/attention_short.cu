// Attention over few tokens: a block holds query, key and value of one head in shared memory, a
// warp owns 16 tokens of it. Backward makes all three gradients in one kernel, from one copy of its
// inputs. Every sum has a fixed order, so all results are the same in every run.
#include "kernels/cuda/attention_short.h"

#include "kernels/cuda/few_tokens/tile.h"

namespace vt::cuda {
namespace {

using namespace few_tokens;

constexpr int kMostTokens = 128;
constexpr int kMostThreads = kMostTokens / 16 * kWarp;

__host__ __device__ constexpr int sixteens(int tokens) { return (tokens + 15) / 16; }

// Where a warp stands.
struct Place {
  int lane, g, t, first, batch, head;
  __device__ explicit Place(int heads)
      : lane(static_cast<int>(threadIdx.x) % kWarp),
        g(lane / 4),
        t(lane % 4),
        first(static_cast<int>(threadIdx.x) / kWarp * 16),
        batch(static_cast<int>(blockIdx.x) / heads),
        head(static_cast<int>(blockIdx.x) % heads) {}
};

// kSixteens: the most keys, in sixteens; scores of a row with all of them are in registers.
template <class T, int D, int kSixteens>
__global__ void __launch_bounds__(kMostThreads, 2) attend_kernel(const AttentionInputs<T> in) {
  await_earlier();
  extern __shared__ uint4 memory[];
  const Place at(in.heads);
  const int rows = sixteens(in.queries) * 16, columns = sixteens(in.keys) * 16;
  const int kv = at.head / (in.heads / in.kv_heads);
  const Tile<D> qs{memory}, ks{memory + rows * Tile<D>::kLines},
      vs{memory + (rows + columns) * Tile<D>::kLines};
  qs.load(in.q, at.batch, at.head, in.queries, rows, in.width);
  ks.load(in.k, at.batch, kv, in.keys, columns, in.width);
  end_copies();
  vs.load(in.v, at.batch, kv, in.keys, columns, in.width);
  end_copies();
  await_copies<1>();
  __syncthreads();

  uint32_t q[D / 16][4];
#pragma unroll
  for (int f = 0; f < D / 16; ++f) qs.left(q[f], at.first, f * 16, at.lane);
  const int end = in.causal ? min(at.first + 16, in.keys) : in.keys;  // of what any row sees
  float s[kSixteens][2][4] = {};
#pragma unroll
  for (int n = 0; n < kSixteens; ++n)
    if (n * 16 < end) score<T, D>(s[n], q, ks, n * 16, at.lane);

  const float factor = in.scale * kLog2E;
  float top[2] = {-INFINITY, -INFINITY}, base[2], total[2] = {};
#pragma unroll
  for (int n = 0; n < kSixteens; ++n) {
    if (n * 16 >= end) continue;
    const bool edge = n * 16 + 16 > (in.causal ? min(at.first + 1, in.keys) : in.keys);
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& x = s[n][c][i];
        if (edge) {
          const int key = n * 16 + c * 8 + 2 * at.t + i % 2;
          if (key >= in.keys || (in.causal && key > at.first + at.g + i / 2 * 8)) x = -INFINITY;
        }
        top[i / 2] = fmaxf(top[i / 2], x);
      }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    top[half] = row_max(top[half]) * factor;
    base[half] = finite_base(top[half]);
  }
  await_copies<0>();
  __syncthreads();

  float sum[D / 8][4] = {};
#pragma unroll
  for (int n = 0; n < kSixteens; ++n) {
    if (n * 16 >= end) continue;
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        s[n][c][i] = power_of_two(fmaf(s[n][c][i], factor, -base[i / 2]));
        total[i / 2] += s[n][c][i];
      }
    uint32_t left[4];
    as_left<T>(left, s[n][0], s[n][1]);
    gather<T, D>(sum, left, vs, n * 16, at.lane);
  }
  float inverse[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float whole = row_sum(total[half]);
    inverse[half] = inverse_of(whole);
    const int row = at.first + at.g + half * 8;
    if (at.t == 0 && row < in.queries)
      in.stats[(int64_t{at.batch} * in.heads + at.head) * in.queries + row] =
          log_of(base[half], whole);
  }
  qs.store(in.out, at.batch, at.head, at.first, in.queries, in.width, sum, inverse, at.lane);
}

// Sums over eight numbers of a line of each.
template <class T>
__device__ __forceinline__ float dot(const uint4& a, const uint4& b) {
  const auto x = reinterpret_cast<const Pack<T, 8>&>(a), y = reinterpret_cast<const Pack<T, 8>&>(b);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i)
    sum = fmaf(static_cast<float>(x.v[i]), static_cast<float>(y.v[i]), sum);
  return sum;
}

// Gradients of scores of a head, a row for each key; its rows are an odd number of lines long, so
// that eight rows of one line lie in different banks.
struct ScoreTile {
  uint4* lines;
  int stride;  // lines
  __device__ uint4* line(int key, int i) const { return lines + key * stride + i; }
};

struct BackwardMemory {
  int rows, columns;  // of queries and keys, whole sixteens
  __host__ __device__ BackwardMemory(int queries, int keys)
      : rows(sixteens(queries) * 16), columns(sixteens(keys) * 16) {}
  __host__ __device__ int score_lines() const { return rows / 8 + 1; }
  __host__ __device__ int lines(int width) const {
    return 2 * (rows + columns) * (width / 8) + columns * score_lines();
  }
  __host__ __device__ int bytes(int width) const {
    return lines(width) * 16 + 2 * rows * static_cast<int>(sizeof(float));
  }
};

// First a warp takes 16 keys and meets all queries, which gives the gradients of key and value;
// the gradients of the scores stay in shared memory. Then it takes 16 queries and adds up theirs.
// kSixteens: the most queries or keys, in sixteens.
template <class T, int D, int kSixteens>
__global__ void __launch_bounds__(kSixteens* kWarp, D == 32 && kSixteens <= 5 ? 4 : 2)
    gradients_kernel(const AttentionInputs<T> in) {
  await_earlier();
  extern __shared__ uint4 memory[];
  constexpr int kLines = Tile<D>::kLines;
  const Place at(in.kv_heads);
  const BackwardMemory sizes(in.queries, in.keys);
  const int rows = sizes.rows, columns = sizes.columns, group = in.heads / in.kv_heads;
  const Tile<D> qs{memory}, dos{qs.lines + rows * kLines}, ks{dos.lines + rows * kLines},
      vs{ks.lines + columns * kLines};
  const ScoreTile ds{vs.lines + columns * kLines, sizes.score_lines()};
  float* const shifts = reinterpret_cast<float*>(memory + sizes.lines(D));
  float* const deltas = shifts + rows;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const float factor = in.scale * kLog2E;
  ks.load(in.k, at.batch, at.head, in.keys, columns, in.width);
  vs.load(in.v, at.batch, at.head, in.keys, columns, in.width);
  float dk[D / 8][4] = {}, dv[D / 8][4] = {};

#pragma unroll 1
  for (int head = at.head * group; head < (at.head + 1) * group; ++head) {
    qs.load(in.q, at.batch, head, in.queries, rows, in.width);
    dos.load(in.dout, at.batch, head, in.queries, rows, in.width);
    end_copies();
    uint4 out[kLines / 2] = {};  // a block has two threads or more for each row
#pragma unroll
    for (int j = 0; j < kLines / 2; ++j) {
      const int i = thread + j * threads, row = i / kLines, line = i % kLines;
      if (row < in.queries && line * 8 < in.width)
        out[j] = *reinterpret_cast<const uint4*>(in.out.row(at.batch, head, row) + line * 8);
    }
    const int64_t places = (int64_t{at.batch} * in.heads + head) * in.queries;
    for (int i = thread; i < rows; i += threads)
      shifts[i] = i < in.queries ? in.stats[places + i] * kLog2E : 0;
    await_copies<0>();
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kLines / 2; ++j) {
      const int i = thread + j * threads, row = i / kLines, line = i % kLines;
      if (row >= rows) break;  // the same for a whole warp
      float delta = dot<T>(out[j], *dos.line(row, line));
#pragma unroll
      for (int step = 1; step < kLines; step *= 2)
        delta += __shfl_xor_sync(0xffffffffu, delta, step);
      if (line == 0) deltas[row] = delta;
    }
    __syncthreads();

    if (at.first < columns) {
      uint32_t k[D / 16][4], v[D / 16][4];
      const auto read_keys = [&] {
#pragma unroll
        for (int f = 0; f < D / 16; ++f) {
          ks.left(k[f], at.first, f * 16, at.lane);
          vs.left(v[f], at.first, f * 16, at.lane);
        }
      };
      if constexpr (D == 32) read_keys();
#pragma unroll 1
      for (int j = in.causal ? at.first : 0; j < rows; j += 16) {
        if constexpr (D != 32) read_keys();  // too many registers to keep them
        float p[2][4] = {}, dp[2][4] = {};
        score<T, D>(p, k, qs, j, at.lane);
        score<T, D>(dp, v, dos, j, at.lane);
        const bool edge =
            j + 16 > in.queries || at.first + 16 > in.keys || (in.causal && j < at.first + 16);
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int query = j + c * 8 + 2 * at.t;
          const float2 shift = *reinterpret_cast<const float2*>(shifts + query);
          const float2 delta = *reinterpret_cast<const float2*>(deltas + query);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& x = p[c][i];
            x = power_of_two(fmaf(x, factor, -(i % 2 ? shift.y : shift.x)));
            dp[c][i] = x * (dp[c][i] - (i % 2 ? delta.y : delta.x));
            if (edge) {
              const int key = at.first + at.g + i / 2 * 8;
              if (query + i % 2 >= in.queries || key >= in.keys ||
                  (in.causal && key > query + i % 2))
                x = dp[c][i] = 0;
            }
          }
        }
        uint32_t left[4];
        as_left<T>(left, p[0], p[1]);
        gather<T, D>(dv, left, dos, j, at.lane);
        as_left<T>(left, dp[0], dp[1]);
        gather<T, D>(dk, left, qs, j, at.lane);
#pragma unroll
        for (int i = 0; i < 4; ++i)
          reinterpret_cast<uint32_t*>(ds.line(at.first + at.g + i % 2 * 8, j / 8 + i / 2))[at.t] =
              left[i];
      }
    }
    __syncthreads();

    if (at.first < rows) {
      float dq[D / 8][4] = {};
      const int end = in.causal ? min(at.first + 16, columns) : columns;
#pragma unroll 1
      for (int j = 0; j < end; j += 16) {
        uint32_t left[4];
        read_columns(left,
                     ds.line(j + at.lane / 16 * 8 + at.lane % 8, at.first / 8 + at.lane / 8 % 2));
        gather<T, D>(dq, left, ks, j, at.lane);
      }
      const float scale[2] = {in.scale, in.scale};
      qs.store(in.dq, at.batch, head, at.first, in.queries, in.width, dq, scale, at.lane);
    }
    if (group > 1) __syncthreads();
  }
  if (at.first < columns) {
    const float scale[2] = {in.scale, in.scale}, one[2] = {1, 1};
    vs.store(in.dk, at.batch, at.head, at.first, in.keys, in.width, dk, scale, at.lane);
    vs.store(in.dv, at.batch, at.head, at.first, in.keys, in.width, dv, one, at.lane);
  }
}

template <class T>
void launch(const Queue& queue, void (*kernel)(AttentionInputs<T>), const Attention& a,
            int64_t heads, int64_t tokens, int bytes) {
  if (bytes > 48 * 1024) queue.allow_shared(reinterpret_cast<const void*>(kernel), bytes);
  queue.launch_shared<Start::kEarly>(
      kernel, static_cast<unsigned>(a.batch * heads),
      static_cast<unsigned>(sixteens(static_cast<int>(tokens)) * kWarp), static_cast<size_t>(bytes),
      AttentionInputs<T>(a, nullptr));
}

// f(type, width of the kernel)
template <class F>
void visit(const Attention& a, F&& f) {
  const auto by_width = [&]<class T>(TypeTag<T>) {
    if (a.width <= 32) f.template operator()<T, 32>();
    else f.template operator()<T, 64>();
  };
  if (a.dtype == DType::kF16) by_width(TypeTag<Half>{});
  else by_width(TypeTag<BFloat16>{});
}

}  // namespace

bool short_can_attend(const Attention& a) {
  // The highest score is sought before scores are scaled.
  return a.scale > 0 && (a.dtype == DType::kF16 || a.dtype == DType::kBF16) && a.width % 8 == 0 &&
         a.width <= 64 && a.queries <= kMostTokens && a.keys <= kMostTokens &&
         a.batch * a.heads <= 0x7fffffff;
}

void short_attention(const Attention& a) {
  const Queue queue("attention", a.device);
  const int rows = sixteens(static_cast<int>(a.queries)) * 16,
            columns = sixteens(static_cast<int>(a.keys)) * 16;
  visit(a, [&]<class T, int D>() {
    launch(queue, columns <= 80 ? &attend_kernel<T, D, 5> : &attend_kernel<T, D, 8>, a, a.heads,
           a.queries, (rows + 2 * columns) * Tile<D>::kLines * 16);
  });
}

void short_attention_backward(const Attention& a) {
  const Queue queue("attention_backward", a.device);
  const BackwardMemory sizes(static_cast<int>(a.queries), static_cast<int>(a.keys));
  visit(a, [&]<class T, int D>() {
    const int64_t tokens = std::max(a.queries, a.keys);
    launch(queue, tokens <= 80 ? &gradients_kernel<T, D, 5> : &gradients_kernel<T, D, 8>, a,
           a.kv_heads, tokens, sizes.bytes(D));
  });
}

}  // namespace vt::cuda
