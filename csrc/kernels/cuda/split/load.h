// How a thread brings its share of float32 operands from memory, a step ahead, and splits it.
#pragma once
#include "kernels/cuda/split/pieces.h"
#include "kernels/cuda/split/wgmma.h"

namespace vt::cuda::split {

inline constexpr int kSixteens = 2;
inline constexpr int kStep = kSixteens * 16;  // along k

// Which of its two dimensions lies contiguously in memory: the inner one (k), or the rows of the
// left operand and the columns of the right one, both called rows here.
enum class Order { kInner, kRows };

// Note [Order along k]: which of 16 numbers along k meets which place of a product is ours to
// choose, as long as both operands agree. Lane (g, t) holds places 2t, 2t + 1, 2t + 8 and 2t + 9 of
// a left operand; they are numbers 4t to 4t + 3, which lie side by side.

// Rows `first` and `first` + 1 of the left operand: numbers 4t to 4t + 3 of each sixteen.
template <Order kOrder>
class LeftLoader {
 public:
  __device__ LeftLoader(int64_t stride, int t) : stride_(stride), t_(t) {}
  // Of the operand at `from`, with `rows` rows.
  __device__ __forceinline__ void start(const float* from, int first, int rows) {
    left_ = rows - first;
    from_ = from + (kOrder == Order::kInner ? first * stride_ + 4 * t_ : first + 4 * t_ * stride_);
  }
  // The next step; `inner` numbers along k are left.
  __device__ __forceinline__ void load(int inner) {
#pragma unroll
    for (int h = 0; h < kSixteens; ++h) {
      const bool there = h * 16 + 4 * t_ < inner;
      if constexpr (kOrder == Order::kInner) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float4 x = {0, 0, 0, 0};
          if (there && half < left_)
            x = *reinterpret_cast<const float4*>(from_ + half * stride_ + h * 16);
          v_[h][half][0] = x.x, v_[h][half][1] = x.y, v_[h][half][2] = x.z, v_[h][half][3] = x.w;
        }
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float2 x = {0, 0};
          if (h * 16 + 4 * t_ + i < inner && left_ > 0)
            x = *reinterpret_cast<const float2*>(from_ + (h * 16 + i) * stride_);
          v_[h][0][i] = x.x, v_[h][1][i] = x.y;
        }
      }
    }
    from_ += kOrder == Order::kInner ? kStep : kStep * stride_;
  }
  __device__ __forceinline__ void split(LeftPieces (&pieces)[kSixteens]) const {
#pragma unroll
    for (int h = 0; h < kSixteens; ++h) pieces[h] = split_left(v_[h][0], v_[h][1], kSplitScale);
  }

 private:
  const float* from_;
  int64_t stride_;
  int left_, t_;
  float v_[kSixteens][2][4];
};

// A thread's share of 128 columns of the right operand, 32 along k, on their way to shared memory.
template <Order kOrder>
class RightLoader {
 public:
  __device__ explicit RightLoader(int64_t stride) : stride_(stride) {
    const int thread = static_cast<int>(threadIdx.x);
    if constexpr (kOrder == Order::kInner) {  // four lanes a column, columns c and c + 64
      column_ = thread / 4;
      place_ = thread % 4;
    } else {  // one sixteen of one column
      column_ = thread % 128;
      place_ = thread / 128;
    }
  }
  __device__ __forceinline__ void start(const float* from, int first, int columns) {
    left_ = columns - first - column_;
    from_ = from + (kOrder == Order::kInner ? (first + column_) * stride_ + 4 * place_
                                            : first + column_ + place_ * 16 * stride_);
  }
  __device__ __forceinline__ void load(int inner) {
    if constexpr (kOrder == Order::kInner) {
#pragma unroll
      for (int h = 0; h < kSixteens; ++h)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float4 x = {0, 0, 0, 0};
          if (h * 16 + 4 * place_ < inner && c * 64 < left_)
            x = *reinterpret_cast<const float4*>(from_ + c * 64 * stride_ + h * 16);
          float* const v = v_ + (h * 2 + c) * 4;
          v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
        }
      from_ += kStep;
    } else {
#pragma unroll
      for (int i = 0; i < 16; ++i)
        v_[i] = left_ > 0 && place_ * 16 + i < inner ? from_[i * stride_] : 0;
      from_ += kStep * stride_;
    }
  }
  // Into a stage of shared memory: [sixteen][piece] operands as in Note [Right operands].
  __device__ __forceinline__ void split(char* stage) const {
    if constexpr (kOrder == Order::kInner) {
#pragma unroll
      for (int h = 0; h < kSixteens; ++h)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const float* const v = v_ + (h * 2 + c) * 4;
          uint32_t pieces[3][2];
          split_row(pieces, {v[0], v[1], v[2], v[3]}, kSplitScale);
#pragma unroll
          for (int p = 0; p < 3; ++p)
#pragma unroll
            for (int eight = 0; eight < 2; ++eight)
              *reinterpret_cast<uint32_t*>(stage + (h * 3 + p) * kRightBytes + eight * kHalfBytes +
                                           (column_ + c * 64) * 16 + place_ * 4) = pieces[p][eight];
        }
    } else {
      uint32_t pieces[4][3][2];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        split_row(pieces[i], {v_[4 * i], v_[4 * i + 1], v_[4 * i + 2], v_[4 * i + 3]}, kSplitScale);
#pragma unroll
      for (int p = 0; p < 3; ++p)
#pragma unroll
        for (int eight = 0; eight < 2; ++eight)
          *reinterpret_cast<uint4*>(stage + (place_ * 3 + p) * kRightBytes + eight * kHalfBytes +
                                    column_ * 16) = {pieces[0][p][eight], pieces[1][p][eight],
                                                     pieces[2][p][eight], pieces[3][p][eight]};
    }
  }

 private:
  const float* from_;
  int64_t stride_;
  int column_, place_, left_;
  float v_[16];
};

}  // namespace vt::cuda::split
