// What becomes of a product on its way from registers to memory.
#pragma once
#include "kernels/cuda/gelu/direct/instructions.h"
#include "kernels/cuda/gelu/direct/job.h"

namespace vt::cuda::direct {

// Two numbers in one register, the first in its lower half.
__device__ __forceinline__ uint32_t join_bf16(float first, float second) {
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
}
__device__ __forceinline__ uint32_t join_f16(float first, float second) {
  uint32_t both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
}
__device__ __forceinline__ float first_bf16(uint32_t both) { return __uint_as_float(both << 16); }
__device__ __forceinline__ float second_bf16(uint32_t both) {
  return __uint_as_float(both & 0xffff0000u);
}
__device__ __forceinline__ float2 both_f16(uint32_t both) {
  float2 x;
  asm("{.reg .b16 low, high; mov.b32 {low, high}, %2;\n"
      "cvt.f32.f16 %0, low; cvt.f32.f16 %1, high;}"
      : "=f"(x.x), "=f"(x.y)
      : "r"(both));
  return x;
}
__device__ __forceinline__ uint32_t part(const uint4& x, int i) {
  return i == 0 ? x.x : i == 1 ? x.y : i == 2 ? x.z : x.w;
}
// Two neighbours of a line: of 64 x 192 sums those of group `group`, line `line`, pair `pair`.
__device__ __forceinline__ float2 two_of(const float (&upper)[kSums], const float (&lower)[kSums],
                                         int group, int line, int pair) {
  const int at = (group * 4 + pair) * 4 + line % 2 * 2;
  return line / 2 ? float2{lower[at], lower[at + 1]} : float2{upper[at], upper[at + 1]};
}

// product + bias, of that GELU and its slope, or with another matrix added to it.
enum class Then : uint8_t { kNothing, kAdd, kGeluSlope };
template <Then kThen>
struct Linear {
  static constexpr bool kAlongColumns = false;

  // Before the last products are there.
  __device__ __forceinline__ Linear(const Job& job, const Spot& spot) : job_(job), spot_(spot) {
    bias_ = bias_of(0);
    if constexpr (kThen == Then::kAdd) {
#pragma unroll
      for (int line = 0; line < kLines; ++line) addends_[line] = addend_of(0, line);
    }
  }

  __device__ __forceinline__ void finish(const float (&upper)[kSums], const float (&lower)[kSums]) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      const uint4 bias = bias_;
      if (group + 1 < kGroups) bias_ = bias_of(group + 1);
#pragma unroll
      for (int line = 0; line < kLines; ++line) {
        uint4 addend{};
        if constexpr (kThen == Then::kAdd) {
          addend = addends_[line];
          if (group + 1 < kGroups) addends_[line] = addend_of(group + 1, line);
        }
        uint32_t out[4], aux[4];
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) {
          float2 x = two_of(upper, lower, group, line, pair);
          x.x += first_bf16(part(bias, pair));
          x.y += second_bf16(part(bias, pair));
          if constexpr (kThen == Then::kGeluSlope) {
            float2 slope;
            gelu(x.x, slope.x);
            gelu(x.y, slope.y);
            aux[pair] = join_f16(slope.x, slope.y);
          }
          if constexpr (kThen == Then::kAdd) {
            x.x += first_bf16(part(addend, pair));
            x.y += second_bf16(part(addend, pair));
          }
          out[pair] = join_bf16(x.x, x.y);
        }
        if (!spot_.has(line)) continue;
        write(job_.out + spot_.place(line, group, job_.out_stride),
              {out[0], out[1], out[2], out[3]});
        if constexpr (kThen == Then::kGeluSlope)
          write(static_cast<Half*>(job_.aux) + spot_.place(line, group, job_.aux_stride),
                {aux[0], aux[1], aux[2], aux[3]});
      }
    }
  }

 private:
  // x becomes gelu(x). The tanh is the hardware's, good to 11 bits. With gate = (1 + tanh) / 2,
  // x (1 - tanh^2) is 4 gelu (1 - gate), which is 0 for large x, whose cube may be infinite.
  static __device__ __forceinline__ void gelu(float& x, float& slope) {
    constexpr float kSlope = 0.7978845608028654f;  // sqrt(2/pi)
    constexpr float kCubicSlope = kSlope * 0.044715f;
    const float square = x * x;
    float tanh;
    asm("tanh.approx.f32 %0, %1;" : "=f"(tanh) : "f"(x * (kSlope + kCubicSlope * square)));
    const float gate = 0.5f + 0.5f * tanh;
    x *= gate;
    slope = gate + (x - x * gate) * (2.0f * kSlope + 6.0f * kCubicSlope * square);
  }
  __device__ __forceinline__ uint4 bias_of(int group) const {
    if (!job_.bias) return {};
    return read_often(job_.bias + spot_.column + group * kGroup);
  }
  __device__ __forceinline__ uint4 addend_of(int group, int line) const {
    if (!spot_.has(line)) return {};
    return read_once(job_.addend + spot_.place(line, group, job_.out_stride));
  }

  const Job& job_;
  const Spot& spot_;
  uint4 bias_;
  uint4 addends_[kThen == Then::kAdd ? kLines : 1];
};

// product * aux, and sums of columns, of what is not rounded yet.
struct Times {
  static constexpr bool kAlongColumns = true;

  __device__ __forceinline__ Times(const Job& job, const Spot& spot) : job_(job), spot_(spot) {
#pragma unroll
    for (int line = 0; line < kLines; ++line) aux_[line] = aux_of(0, line);
  }

  __device__ __forceinline__ void finish(const float (&upper)[kSums], const float (&lower)[kSums]) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      float sums[kPack];
#pragma unroll
      for (int line = 0; line < kLines; ++line) {
        const uint4 aux = aux_[line];
        if (group + 1 < kGroups) aux_[line] = aux_of(group + 1, line);
        uint32_t out[4];
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) {
          const float2 factor = both_f16(part(aux, pair));
          float2 x = two_of(upper, lower, group, line, pair);
          x.x *= factor.x;
          x.y *= factor.y;
          sums[pair * 2] = line ? sums[pair * 2] + x.x : x.x;
          sums[pair * 2 + 1] = line ? sums[pair * 2 + 1] + x.y : x.y;
          out[pair] = join_bf16(x.x, x.y);
        }
        if (spot_.has(line))
          write(job_.out + spot_.place(line, group, job_.out_stride),
                {out[0], out[1], out[2], out[3]});
      }
      if (job_.sums) add_up(sums, group);
    }
  }

 private:
  // Of the eight lanes with the same columns each ends up with the sum of one column.
  __device__ __forceinline__ void add_up(float (&sums)[kPack], int group) const {
    const int row = threadIdx.x % 32 / 4, warp = threadIdx.x / 32 % 4;
#pragma unroll
    for (int half = kPack / 2; half > 0; half /= 2) {
      const bool upper = row & half;
#pragma unroll
      for (int i = 0; i < half; ++i) {
        const float other = __shfl_xor_sync(0xffffffff, upper ? sums[i] : sums[i + half], half * 4);
        sums[i] = (upper ? sums[i + half] : sums[i]) + other;
      }
    }
    if (spot_.tile * kRows < job_.m)  // tiles beyond the matrix fill up clusters
      job_.sums[(spot_.tile * 4 + warp) * job_.sums_stride + spot_.column + group * kGroup + row] =
          sums[0];
  }
  __device__ __forceinline__ uint4 aux_of(int group, int line) const {
    if (!spot_.has(line)) return {};
    return read_once(static_cast<const Half*>(job_.aux) +
                     spot_.place(line, group, job_.aux_stride));
  }

  const Job& job_;
  const Spot& spot_;
  uint4 aux_[kLines];
};

}  // namespace vt::cuda::direct
