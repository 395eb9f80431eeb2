// Tiles of 16-bit floats in shared memory, read as operands of tensor cores along rows and across
// them, and products within a warp.
#pragma once
#include "base/half.h"
#include "kernels/cuda/async_copy.h"
#include "kernels/cuda/attention_heads.h"

namespace vt::cuda::few_tokens {

// Two numbers in one register, the first in its lower half.
template <class T>
__device__ __forceinline__ uint32_t join(float first, float second) {
  uint32_t both;
  if constexpr (std::is_same_v<T, BFloat16>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
}

// 2^x; 0 where that is below the smallest normal number.
__device__ __forceinline__ float power_of_two(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// sum += left * right: 16 rows, 8 columns, 16 along k.
template <class T>
__device__ __forceinline__ void multiply(float (&sum)[4], const uint32_t (&left)[4],
                                         uint32_t right0, uint32_t right1) {
  if constexpr (std::is_same_v<T, BFloat16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
}

// Four 8 x 8 matrices; lane i gives the address of row i % 8 of matrix i / 8. Lane (g, t) gets
// columns 2t and 2t + 1 of row g of each, or rows 2t and 2t + 1 of column g.
__device__ __forceinline__ void read_rows(uint32_t (&x)[4], const uint4* line) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(line));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void read_columns(uint32_t (&x)[4], const uint4* line) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(line));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(address)
               : "memory");
}

// Rows of D features, one of a token. Lines of eight numbers change places within a row, so that
// eight rows of one line lie in different banks.
template <int D>
struct Tile {
  static constexpr int kLines = D / 8;
  uint4* lines;

  __device__ uint4* line(int row, int i) const {
    return lines + row * kLines + (i ^ (row / (8 / kLines) % kLines));
  }

  // Starts to bring `count` tokens of a head here, and zeros up to `padded` rows and D features.
  template <class T>
  __device__ void load(const Heads<T>& from, int batch, int head, int count, int padded,
                       int width) const {
    for (int i = static_cast<int>(threadIdx.x); i < padded * kLines;
         i += static_cast<int>(blockDim.x)) {
      const int row = i / kLines, at = i % kLines;
      copy_line(line(row, at), from.row(batch, head, row) + at * 8, row < count && at * 8 < width);
    }
  }

  // 16 tokens as rows of a left operand, 16 features as k.
  __device__ void left(uint32_t (&x)[4], int row, int feature, int lane) const {
    read_rows(x, line(row + lane % 16, feature / 8 + lane / 16));
  }
  // 16 tokens as columns of two right operands (x[0], x[1] and x[2], x[3]), 16 features as k.
  __device__ void along_features(uint32_t (&x)[4], int row, int feature, int lane) const {
    read_rows(x, line(row + lane / 16 * 8 + lane % 8, feature / 8 + lane / 8 % 2));
  }
  // 16 features as columns of two right operands, 16 tokens as k.
  __device__ void along_tokens(uint32_t (&x)[4], int row, int feature, int lane) const {
    read_columns(x, line(row + lane % 16, feature / 8 + lane / 16));
  }

  // 16 rows of results times a factor for each half, through 16 rows of this tile that no other
  // warp reads any more. All lanes of the warp take part.
  template <class T>
  __device__ void store(const Heads<T>& to, int batch, int head, int first, int count, int width,
                        const float (&x)[D / 8][4], const float (&factor)[2], int lane) const {
    const int g = lane / 4, t = lane % 4;
    __syncwarp();
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        reinterpret_cast<uint32_t*>(line(first + g + half * 8, n))[t] =
            join<T>(x[n][half * 2] * factor[half], x[n][half * 2 + 1] * factor[half]);
    __syncwarp();
#pragma unroll
    for (int i = lane; i < 16 * kLines; i += kWarp) {
      const int row = first + i / kLines, at = i % kLines;
      if (row < count && at * 8 < width)
        *reinterpret_cast<uint4*>(to.row(batch, head, row) + at * 8) = *line(row, at);
    }
    __syncwarp();
  }
};

// Results of products that two blocks of 8 columns hold, as a left operand with those columns as k.
template <class T>
__device__ __forceinline__ void as_left(uint32_t (&x)[4], const float (&low)[4],
                                        const float (&high)[4]) {
  x[0] = join<T>(low[0], low[1]);
  x[1] = join<T>(low[2], low[3]);
  x[2] = join<T>(high[0], high[1]);
  x[3] = join<T>(high[2], high[3]);
}

// sum += left * tile, over 16 tokens from `row` on.
template <class T, int D>
__device__ __forceinline__ void gather(float (&sum)[D / 8][4], const uint32_t (&left)[4],
                                       const Tile<D>& tile, int row, int lane) {
#pragma unroll
  for (int f = 0; f < D / 16; ++f) {
    uint32_t right[4];
    tile.along_tokens(right, row, f * 16, lane);
    multiply<T>(sum[f * 2], left, right[0], right[1]);
    multiply<T>(sum[f * 2 + 1], left, right[2], right[3]);
  }
}

// s += left * tile^T over features, for 16 tokens from `row` on.
template <class T, int D>
__device__ __forceinline__ void score(float (&s)[2][4], const uint32_t (&left)[D / 16][4],
                                      const Tile<D>& tile, int row, int lane) {
#pragma unroll
  for (int f = 0; f < D / 16; ++f) {
    uint32_t right[4];
    tile.along_features(right, row, f * 16, lane);
    multiply<T>(s[0], left[f], right[0], right[1]);
    multiply<T>(s[1], left[f], right[2], right[3]);
  }
}

}  // namespace vt::cuda::few_tokens
