// What attention on tensor cores is made of: tiles of tokens in shared memory, read both ways, and
// rows of a warp as left operands. Note [Three pieces] says how float32 becomes bfloat16.
#pragma once
#include "kernels/cuda/attention_heads.h"
#include "kernels/cuda/split/pieces.h"

namespace vt::cuda::split {

inline constexpr int kTokens = 64;  // of a tile

// kTokens rows of kWidth features. Products over features read a row along k, products over tokens
// read across rows, so lines change places within a row for both to meet different banks.
template <int kWidth>
struct TokenTile {
  static constexpr int kLines = kWidth / 4;  // of a row
  float4 lines[kTokens * kLines];

  __device__ static int place(int token, int line) {
    return token * kLines + (line ^ ((token & 6) ^ ((token & 1) << 2)));
  }

  // Starts to bring tokens from `first` on here; zeros beyond `count` tokens and `width` features.
  __device__ void load(const Heads<float>& from, int batch, int head, int first, int count,
                       int width) {
    for (int i = static_cast<int>(threadIdx.x); i < kTokens * kLines;
         i += static_cast<int>(blockDim.x)) {
      const int token = i / kLines, line = i % kLines;
      copy_line(lines + place(token, line), from.row(batch, head, first + token) + line * 4,
                first + token < count && line * 4 < width);
    }
  }

  // Eight tokens from `token` on as columns, 16 features as k: 4t to 4t + 3 of lane (g, t).
  __device__ void along_features(RightPieces& pieces, int token, int feature, int g, int t) const {
    const float4 x = lines[place(token + g, feature / 4 + t)];
    split_row(pieces.x, {x.x, x.y, x.z, x.w}, 1);
  }

  // 32 features from `feature` on as columns of four products, 16 tokens as k in the order in which
  // the results of a product over features lie: 2t, 2t + 1, 2t + 8, 2t + 9 of lane (g, t). Column g
  // of product i is feature 4g + i.
  __device__ void along_tokens(RightPieces (&pieces)[4], int token, int feature, int g,
                               int t) const {
    float v[4][4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const float4 x = lines[place(token + 2 * t + k % 2 + k / 2 * 8, feature / 4 + g)];
      v[0][k] = x.x, v[1][k] = x.y, v[2][k] = x.z, v[3][k] = x.w;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) split_row(pieces[i].x, v[i], 1);
  }
};

// 16 rows of one head in registers: lane (g, t) has features 16i + 4t to 4t + 3 of rows g and g
// + 8.
template <int kWidth>
struct HeadRows {
  float v[2][kWidth / 16][4];

  __device__ void load(const Heads<float>& from, int batch, int head, int first, int count,
                       int width, int g, int t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = first + g + half * 8;
#pragma unroll
      for (int i = 0; i < kWidth / 16; ++i) {
        const int feature = i * 16 + 4 * t;
        float4 x = {0, 0, 0, 0};
        if (token < count && feature < width)
          x = *reinterpret_cast<const float4*>(from.row(batch, head, token) + feature);
        v[half][i][0] = x.x, v[half][i][1] = x.y, v[half][i][2] = x.z, v[half][i][3] = x.w;
      }
    }
  }
  // This lane's share of the inner product of a half's row with another's.
  __device__ float dot(const HeadRows& other, int half) const {
    float sum = 0;
#pragma unroll
    for (int f = 0; f < kWidth / 16; ++f)
#pragma unroll
      for (int i = 0; i < 4; ++i) sum = fmaf(v[half][f][i], other.v[half][f][i], sum);
    return sum;
  }
  __device__ void split(LeftPieces (&pieces)[kWidth / 16], float factor) const {
#pragma unroll
    for (int i = 0; i < kWidth / 16; ++i) pieces[i] = split_left(v[0][i], v[1][i], factor);
  }
};

// Two neighbouring results of products over features, 16 rows by 16 tokens, as a left operand.
__device__ __forceinline__ LeftPieces split_results(const float (&low)[4], const float (&high)[4]) {
  const SplitPair pairs[4] = {split_pair(low[0], low[1]), split_pair(low[2], low[3]),
                              split_pair(high[0], high[1]), split_pair(high[2], high[3])};
  LeftPieces result;
#pragma unroll
  for (int p = 0; p < 3; ++p)
#pragma unroll
    for (int i = 0; i < 4; ++i) result.x[p][i] = pairs[i].piece[p];
  return result;
}

// Stores 16 rows of results of products over tokens, times a factor for each half.
template <int kWidth>
__device__ __forceinline__ void store_rows(const Heads<float>& to, int batch, int head, int first,
                                           int count, int width, int g, int t,
                                           const float (&x)[kWidth / 8][4],
                                           const float (&factor)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int token = first + g + half * 8;
    if (token >= count) continue;
    float* const row = to.row(batch, head, token);
#pragma unroll
    for (int group = 0; group < kWidth / 32; ++group)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int feature = group * 32 + 8 * t + 4 * i, at = half * 2 + i;
        if (feature < width)
          *reinterpret_cast<float4*>(row + feature) = {
              x[group * 4][at] * factor[half], x[group * 4 + 1][at] * factor[half],
              x[group * 4 + 2][at] * factor[half], x[group * 4 + 3][at] * factor[half]};
      }
  }
}

}  // namespace vt::cuda::split
