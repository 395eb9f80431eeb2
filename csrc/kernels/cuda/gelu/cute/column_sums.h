// A node of the epilogue's tree that adds up the columns of a tile on their way through.
#pragma once
#include "kernels/cuda/gelu/cute/on_the_way.h"

namespace vt::cuda::gelu {

struct ColumnSumsTo {
  float* sums = nullptr;
  int64_t width = 0;  // of a row of sums
};

// Passes its input on. A tile has kWarps rows of sums, one of each warp's rows, in an order that is
// always the same; null: nothing is added up. What lies beyond the matrix must be zeros.
//
// For one group of four warps that go through the tile in parts of 64 rows, of which a warp has 16,
// a thread two.
template <class Tile, class Part>
struct ColumnSums : OnTheWay<ColumnSumsTo> {
  static constexpr int kWarps = 4;
  static constexpr int kRows = cute::size<0>(Tile{}), kColumns = cute::size<1>(Tile{});
  static constexpr int kPartColumns = cute::size<1>(Part{}), kParts = kColumns / kPartColumns;
  static constexpr int kLast = kRows / 64 - 1;    // part of rows
  static constexpr int kHeld = kPartColumns / 4;  // columns of a part that a thread has
  static_assert(cute::size<0>(Part{}) == 64 && kPartColumns % 32 == 0);

  using Base = OnTheWay<ColumnSumsTo>;
  using Base::Base, Base::params_;

  struct Callbacks : cutlass::epilogue::fusion::detail::EmptyConsumerStoreCallbacks {
    CUTLASS_DEVICE Callbacks(float* to, int lane) : to(to), lane(lane) {}

    float* to;  // the warp's row of the tile; null: none is wanted
    int lane;
    float held[kParts][kHeld];

    // A thread's numbers of a part lie as wgmma leaves them: two columns, two rows, and so on for
    // every eight columns.
    template <class Accumulator, int N>
    CUTLASS_DEVICE cutlass::Array<float, N> visit(const cutlass::Array<Accumulator, N>&, int,
                                                  int part_m, int part_n,
                                                  const cutlass::Array<float, N>& input) {
      static_assert(N == 2 * kHeld);
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kHeld; ++i) {
        const int first = i % 2 + i / 2 * 4;
        const float both = input[first] + input[first + 2];
        held[part_n][i] = part_m == 0 ? both : held[part_n][i] + both;
      }
      return input;
    }

    // Of the eight lanes with the same columns each ends up with the sums of one in eight.
    template <class Memory, class Sync, class Results>
    CUTLASS_DEVICE void reduce(Memory&&, const Sync&, int, int, bool last, const Results&) {
      if (!last || to == nullptr) return;
      constexpr int kAll = kParts * kHeld, kLanes = 8;
      float* const sums = &held[0][0];
      const int row = lane / 4;
      CUTLASS_PRAGMA_UNROLL
      for (int half = kLanes / 2; half > 0; half /= 2) {
        const bool upper = row & half;
        CUTLASS_PRAGMA_UNROLL
        for (int group = 0; group < kAll / kLanes; ++group) {
          CUTLASS_PRAGMA_UNROLL
          for (int i = 0; i < half; ++i) {
            float& low = sums[group * kLanes + i];
            const float high = sums[group * kLanes + i + half];
            const float other = __shfl_xor_sync(0xffffffff, upper ? low : high, half * 4);
            low = (upper ? high : low) + other;
          }
        }
      }
      const int column = row / 2 * 8 + lane % 4 * 2 + row % 2;
      CUTLASS_PRAGMA_UNROLL
      for (int group = 0; group < kAll / kLanes; ++group)
        to[group * 32 + column] = sums[group * kLanes];
    }
  };

  template <bool, class... Args>
  CUTLASS_DEVICE auto get_consumer_store_callbacks(
      const cutlass::epilogue::fusion::detail::ConsumerStoreArgs<Args...>& args) {
    const int m = cute::get<0>(args.tile_coord_mnkl), n = cute::get<1>(args.tile_coord_mnkl);
    // Tiles beyond the matrix fill up clusters.
    const bool wanted = params_->sums && m * kRows < cute::get<0>(args.problem_shape_mnkl) &&
                        n * kColumns < cute::get<1>(args.problem_shape_mnkl);
    const int64_t row = int64_t{m} * kWarps + args.thread_idx / 32;
    float* to = wanted ? params_->sums + row * params_->width + n * kColumns : nullptr;
    return Callbacks(to, args.thread_idx % 32);
  }
};

}  // namespace vt::cuda::gelu
