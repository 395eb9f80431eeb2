// Transposing copies: tiles small enough that both sides stay in the first-level cache, in blocks
// that fit registers.
#include "kernels/cpu/simd/transpose.h"

#include <emmintrin.h>

#include <algorithm>

#include "device/cpu/parallel.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kTile = 32;
constexpr int64_t kGrain = 16384;  // elements that are worth a thread

// dst[c][r] = src[r][c] for one square block; strides in bytes.
template <class T>
struct Block {
  static constexpr int64_t kSide = 8;
  static inline __attribute__((always_inline)) void run(char* dst, int64_t dst_stride,
                                                        const char* src, int64_t src_stride) {
    T values[kSide][kSide];
    for (int r = 0; r < kSide; ++r)
      __builtin_memcpy(values[r], src + r * src_stride, sizeof(values[r]));
    for (int c = 0; c < kSide; ++c) {
      T* to = reinterpret_cast<T*>(dst + c * dst_stride);
      for (int r = 0; r < kSide; ++r) to[r] = values[r][c];
    }
  }
};
#if defined(__SSE2__)
template <>
struct Block<uint32_t> {
  static constexpr int64_t kSide = 4;
  static inline __attribute__((always_inline)) void run(char* dst, int64_t dst_stride,
                                                        const char* src, int64_t src_stride) {
    __m128 a = _mm_loadu_ps(reinterpret_cast<const float*>(src));
    __m128 b = _mm_loadu_ps(reinterpret_cast<const float*>(src + src_stride));
    __m128 c = _mm_loadu_ps(reinterpret_cast<const float*>(src + 2 * src_stride));
    __m128 d = _mm_loadu_ps(reinterpret_cast<const float*>(src + 3 * src_stride));
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(reinterpret_cast<float*>(dst), a);
    _mm_storeu_ps(reinterpret_cast<float*>(dst + dst_stride), b);
    _mm_storeu_ps(reinterpret_cast<float*>(dst + 2 * dst_stride), c);
    _mm_storeu_ps(reinterpret_cast<float*>(dst + 3 * dst_stride), d);
  }
};
#endif

template <class T>
void transpose_tile(char* dst, int64_t dst_stride, const char* src, int64_t src_stride,
                    int64_t rows, int64_t columns) {
  constexpr int64_t side = Block<T>::kSide, item = sizeof(T);
  const int64_t whole_rows = rows / side * side, whole_columns = columns / side * side;
  for (int64_t c = 0; c < whole_columns; c += side)
    for (int64_t r = 0; r < whole_rows; r += side)
      Block<T>::run(dst + c * dst_stride + r * item, dst_stride, src + r * src_stride + c * item,
                    src_stride);
  const auto rest = [&](int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
    for (int64_t c = c0; c < c1; ++c)
      for (int64_t r = r0; r < r1; ++r)
        *reinterpret_cast<T*>(dst + c * dst_stride + r * item) =
            *reinterpret_cast<const T*>(src + r * src_stride + c * item);
  };
  rest(whole_rows, rows, 0, columns);
  rest(0, whole_rows, whole_columns, columns);
}

// dst is contiguous in dimension 0 of the plan, src in dimension d: tiles of those two, over the
// rest.
template <class T>
void run(const ElementwisePlan& plan, int d) {
  const int64_t rows = plan.sizes[0], columns = plan.sizes[d];
  const int64_t row_tiles = (rows + kTile - 1) / kTile,
                column_tiles = (columns + kTile - 1) / kTile;
  int64_t others = 1;
  for (int k = 1; k < plan.ndim; ++k) others *= k == d ? 1 : plan.sizes[k];
  const int64_t tiles = others * row_tiles * column_tiles;
  parallel_for(
      tiles, std::max<int64_t>(1, kGrain / (kTile * kTile)), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          const int64_t r = t % row_tiles * kTile, c = t / row_tiles % column_tiles * kTile;
          char* dst = plan.data[0] + r * plan.strides[0][0] + c * plan.strides[0][d];
          const char* src = plan.data[1] + r * plan.strides[1][0] + c * plan.strides[1][d];
          for (int64_t k = 1, rest = t / (row_tiles * column_tiles); k < plan.ndim; ++k) {
            if (k == d) continue;
            dst += rest % plan.sizes[k] * plan.strides[0][k];
            src += rest % plan.sizes[k] * plan.strides[1][k];
            rest /= plan.sizes[k];
          }
          transpose_tile<T>(dst, plan.strides[0][d], src, plan.strides[1][0],
                            std::min(kTile, rows - r), std::min(kTile, columns - c));
        }
      });
}

}  // namespace

bool transpose_copy(const ElementwisePlan& plan, int64_t size) {
  if (plan.sizes[0] < 4 || plan.strides[0][0] != size || plan.strides[1][0] <= size) return false;
  for (int d = 1; d < plan.ndim; ++d) {
    if (plan.strides[1][d] != size || plan.sizes[d] < 4) continue;
    switch (size) {
      case 1: run<uint8_t>(plan, d); break;
      case 2: run<uint16_t>(plan, d); break;
      case 4: run<uint32_t>(plan, d); break;
      default: run<uint64_t>(plan, d); break;
    }
    return true;
  }
  return false;
}

}  // namespace vt::cpu::VT_ISA
