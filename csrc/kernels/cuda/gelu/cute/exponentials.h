// A node of the epilogue's tree that makes exponentials of a tile's numbers and adds up its rows.
#pragma once
#include <cutlass/numeric_conversion.h>
// The header above first: this one leaves it out.
#include "kernels/cuda/gelu/cute/on_the_way.h"

namespace vt::cuda::gelu {

struct ExponentialsOf {
  const float* shifts = nullptr;
  float* sums = nullptr;
  int stride = 0;
};

// Passes on exp2(log2(e) x + shifts[row]), rounded to N, where 16 bits ask for no more than the
// hardware's exp2. Before it is rounded, row r of tile n is added up into sums[n * stride + r], in
// an order that is always the same. Shifts and sums have room for whole clusters of tiles; rows
// beyond the matrix are not looked at by anyone. Columns come in whole parts.
//
// For one group of four warps that go through the tile in parts of 64 rows, of which a warp has 16,
// a thread two.
template <class N, class Tile, class Part>
struct Exponentials : OnTheWay<ExponentialsOf> {
  static constexpr int kRows = cute::size<0>(Tile{}), kColumns = cute::size<1>(Tile{});
  static constexpr int kPartRows = cute::size<0>(Part{}), kPartColumns = cute::size<1>(Part{});
  static constexpr int kParts = kRows / kPartRows, kApart = 8;  // a thread's two rows
  static_assert(kPartRows == 64);

  using Base = OnTheWay<ExponentialsOf>;
  using Base::Base, Base::params_;

  struct Callbacks : cutlass::epilogue::fusion::detail::EmptyConsumerStoreCallbacks {
    CUTLASS_DEVICE Callbacks(const float* shifts, float* sums, int columns)
        : shifts(shifts), sums(sums), columns(columns) {}

    const float* shifts;  // of the thread's first row
    float* sums;
    int columns;  // from the tile's first one on
    float shift[kParts][2], sum[kParts][2];

    CUTLASS_DEVICE void begin() {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kParts * 2; ++i) {
        shift[i / 2][i % 2] = shifts[i / 2 * kPartRows + i % 2 * kApart];
        sum[i / 2][i % 2] = 0;
      }
    }

    // A thread's numbers of a part lie as wgmma leaves them: two columns, two rows, and so on for
    // every eight columns.
    template <class Accumulator, int Count>
    CUTLASS_DEVICE cutlass::Array<N, Count> visit(const cutlass::Array<Accumulator, Count>&, int,
                                                  int part_m, int part_n,
                                                  const cutlass::Array<float, Count>& input) {
      static_assert(Count == kPartColumns / 2);
      constexpr float kLog2e = 1.4426950408889634f;
      cutlass::Array<float, Count> powers;
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < Count; ++i)
        asm("ex2.approx.ftz.f32 %0, %1;"
            : "=f"(powers[i])
            : "f"(fmaf(input[i], kLog2e, shift[part_m][i / 2 % 2])));
      // Beyond the last column are zeros, whose exponentials are none.
      if (part_n * kPartColumns < columns) {
        CUTLASS_PRAGMA_UNROLL
        for (int row = 0; row < 2; ++row) {
          float even = 0, odd = 0;
          CUTLASS_PRAGMA_UNROLL
          for (int i = row * 2; i < Count; i += 4) {
            even += powers[i];
            odd += powers[i + 1];
          }
          sum[part_m][row] += even + odd;
        }
      }
      return cutlass::NumericArrayConverter<N, float, Count>{}(powers);
    }

    // Four neighbouring lanes have the same rows.
    CUTLASS_DEVICE void end() {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kParts * 2; ++i) {
        float total = sum[i / 2][i % 2];
        total += __shfl_xor_sync(0xffffffff, total, 1);
        total += __shfl_xor_sync(0xffffffff, total, 2);
        if (threadIdx.x % 4 == 0) sums[i / 2 * kPartRows + i % 2 * kApart] = total;
      }
    }
  };

  template <bool, class... Args>
  CUTLASS_DEVICE auto get_consumer_store_callbacks(
      const cutlass::epilogue::fusion::detail::ConsumerStoreArgs<Args...>& args) {
    const int tile = cute::get<1>(args.tile_coord_mnkl);
    const int warp = args.thread_idx / 32, lane = args.thread_idx % 32;
    const int row = cute::get<3>(args.tile_coord_mnkl) * cute::get<0>(args.problem_shape_mnkl) +
                    cute::get<0>(args.tile_coord_mnkl) * kRows + warp * 16 + lane / 4;
    return Callbacks(params_->shifts + row, params_->sums + int64_t{tile} * params_->stride + row,
                     cute::get<1>(args.problem_shape_mnkl) - tile * kColumns);
  }
};

}  // namespace vt::cuda::gelu
