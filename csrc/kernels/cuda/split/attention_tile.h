// What attention on tensor cores is made of: tiles of tokens in shared memory, read both ways, and
// rows of a warp as left operands. Note [Three pieces] says how float32 becomes bfloat16.
#pragma once
#include "kernels/cuda/attention_heads.h"
#include "kernels/cuda/split/pieces.h"

namespace vt::cuda::split {

inline constexpr int kTokens = 64;  // of a tile

// Four 8 x 8 matrices of 16-bit numbers: lane i gives the address of a row of the i / 8th. Lane
// (g, t) gets numbers 2t and 2t + 1 of row g of each; transposed, of column g.
__device__ __forceinline__ void read_matrices(uint32_t (&x)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void read_transposed(uint32_t (&x)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(address)
               : "memory");
}

// kTokens rows of kWidth features, split once for all warps: three planes of bfloat16. Lines of
// eight features change places within a row so that eight rows meet different banks.
template <int kWidth>
class TokenTile {
  static constexpr int kLines = kWidth / 8;  // of a row
  static constexpr int kPlane = kTokens * kWidth * 2;

 public:
  // Brings tokens from `first` on here; zeros beyond `count` tokens and `width` features.
  __device__ void load(const Heads<float>& from, int batch, int head, int first, int count,
                       int width) {
    constexpr int kFours = kWidth / 4;
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < kTokens * kFours;
         i += static_cast<int>(blockDim.x)) {
      const int token = i / kFours, four = i % kFours;
      float4 x = {0, 0, 0, 0};
      if (first + token < count && four * 4 < width)
        x = *reinterpret_cast<const float4*>(from.row(batch, head, first + token) + four * 4);
      const SplitPair low = split_pair(x.x, x.y), high = split_pair(x.z, x.w);
      char* const to = data_ + place(token, four / 2) + four % 2 * 8;
#pragma unroll
      for (int p = 0; p < 3; ++p)
        *reinterpret_cast<uint2*>(to + p * kPlane) = {low.piece[p], high.piece[p]};
    }
  }

  // 16 tokens from `token` on as columns of two products, features `feature` to `feature` + 15 as
  // k.
  __device__ void along_features(RightPieces (&pieces)[2], int token, int feature) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const uint32_t at =
        base() + place(token + lane / 16 * 8 + lane % 8, feature / 8 + lane / 8 % 2);
#pragma unroll
    for (int p = 0; p < 3; ++p) {
      uint32_t x[4];
      read_matrices(x, at + p * kPlane);
      put(pieces, p, x);
    }
  }
  // 16 features from `feature` on as columns of two products, 16 tokens as k.
  __device__ void along_tokens(RightPieces (&pieces)[2], int token, int feature) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const uint32_t at = base() + place(token + lane % 16, feature / 8 + lane / 16);
#pragma unroll
    for (int p = 0; p < 3; ++p) {
      uint32_t x[4];
      read_transposed(x, at + p * kPlane);
      put(pieces, p, x);
    }
  }

 private:
  __device__ static int place(int token, int line) {
    const int swap = kLines == 4 ? token / 2 % 4 : token % 8;
    return (token * kLines + (line ^ swap)) * 16;
  }
  __device__ uint32_t base() const {
    return static_cast<uint32_t>(__cvta_generic_to_shared(data_));
  }
  __device__ static void put(RightPieces (&pieces)[2], int p, const uint32_t (&x)[4]) {
    pieces[0].x[p][0] = x[0];
    pieces[0].x[p][1] = x[1];
    pieces[1].x[p][0] = x[2];
    pieces[1].x[p][1] = x[3];
  }

  alignas(128) char data_[3 * kPlane];
};

// 16 rows of one head in registers: lane (g, t) has features 16i + 2t, 2t + 1, 2t + 8 and 2t + 9 of
// rows g and g + 8.
template <int kWidth>
struct HeadRows {
  float v[2][kWidth / 16][4];

  __device__ void load(const Heads<float>& from, int batch, int head, int first, int count,
                       int width, int g, int t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = first + g + half * 8;
#pragma unroll
      for (int i = 0; i < kWidth / 16; ++i)
#pragma unroll
        for (int eight = 0; eight < 2; ++eight) {
          const int feature = i * 16 + eight * 8 + 2 * t;
          float2 x = {0, 0};
          if (token < count && feature < width)
            x = *reinterpret_cast<const float2*>(from.row(batch, head, token) + feature);
          v[half][i][eight * 2] = x.x, v[half][i][eight * 2 + 1] = x.y;
        }
    }
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

// The sum or maximum over the four lanes that share a row.
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
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
    for (int n = 0; n < kWidth / 8; ++n)
      if (n * 8 + 2 * t < width)
        *reinterpret_cast<float2*>(row + n * 8 + 2 * t) = {x[n][half * 2] * factor[half],
                                                           x[n][half * 2 + 1] * factor[half]};
  }
}

}  // namespace vt::cuda::split
