// The thread that asks for all that a block needs.
#pragma once
#include "kernels/cuda/attention_gradients/form.h"
#include "kernels/cuda/attention_gradients/maps.h"
#include "kernels/cuda/attention_gradients/pipeline.h"

namespace vt::cuda::attention_gradients {

// Tiles of 64 features each, rows in boxes of 64.
template <int kWidth, int kRows>
__device__ __forceinline__ void load_rows(uint32_t to, const CUtensorMap& map, int row, int head,
                                          int batch, uint32_t barrier) {
#pragma unroll
  for (int part = 0; part < kWidth / 64; ++part)
#pragma unroll
    for (int i = 0; i < kRows; i += 64)
      load_box(to + (part * kRows + i) * 128, map, part * 64, row + i, head, batch, barrier);
}

template <class F>
__device__ void produce(const Memory<F>& m, const Maps& maps, const Job& job) {
  constexpr int D = F::kWidth;
  const int group = job.heads / job.kv_heads;
  Turn<F::kStages> turn{0, 1};  // all stages are empty
  int n = 0;
  for (int round = 0; Item::any(job, round); ++round) {
    const Item item(job, F::kQueries, round);
    if (item.none) continue;
    const int first = item.tile * F::kRows, buffer = n % 2;
    await_phase(m.kept_empty(buffer), (n / 2 % 2) ^ 1);
    ++n;
    arrive_expecting(m.kept_full(buffer), 2 * F::kKeptBytes);
    for (int i = 0; i < 2; ++i)
      load_rows<D, F::kRows>(m.kept_at(buffer) + i * F::kKeptBytes, maps.kept[i], first, item.head,
                             item.batch, m.kept_full(buffer));
    if constexpr (F::kQueries)
#pragma unroll
      for (int part = 0; part < D / 64; ++part)
#pragma unroll
        for (int i = 0; i < F::kRows; i += 64)
          fetch_box(maps.out, part * 64, first + i, item.head, item.batch);
    const Range<F> range(job, first, F::kRows);
    for (int h = 0; h < (F::kQueries ? 1 : group); ++h) {
      const int head = F::kQueries ? item.head / group : item.head * group + h;
      for (int t = range.begin; t < range.end; ++t, turn.next()) {
        const uint32_t full = m.full(turn.stage);
        await_phase(m.empty(turn.stage), turn.parity);
        arrive_expecting(full, 2 * F::kTileBytes + F::kStreamedRowBytes);
        for (int i = 0; i < 2; ++i)
          load_rows<D, F::kColumns>(m.tile_at(turn.stage) + i * F::kTileBytes, maps.streamed[i],
                                    t * F::kColumns, head, item.batch, full);
        if constexpr (!F::kQueries) {
          const int64_t at =
              (int64_t{item.batch} * job.heads + head) * job.padded + t * F::kColumns;
          const uint32_t rows = m.streamed_rows_at(turn.stage);
          load_lines(rows, job.shifts + at, F::kColumns * 4, full);
          load_lines(rows + F::kColumns * 4, job.deltas + at, F::kColumns * 4, full);
        }
      }
    }
  }
}

}  // namespace vt::cuda::attention_gradients
