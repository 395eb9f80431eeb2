// Rows of a dense matrix, cut into chunks where there are too few rows to fill the GPU: one warp a
// row where rows are many or short, else a block for each chunk of a row. The cuts depend on the
// shape only.
#pragma once
#include <utility>

#include "kernels/cuda/launch.h"
#include "tensor/tensor.h"

namespace vt::cuda {

struct RowChunks {
  // Of an H100 or H200: the cuts are the same on other GPUs.
  static constexpr int64_t kMultiprocessors = 132;
  static constexpr int64_t kWantedBlocks = 1056, kLeast = 8192, kManyRows = 4096;
  int64_t rows, n, chunk, chunks;
  bool warps;

  RowChunks(int64_t rows, int64_t n, int64_t wanted = kWantedBlocks)
      : rows(rows), n(n), chunk(n), chunks(1), warps(n <= 1024 || rows >= kManyRows) {
    const int64_t blocks = warps ? ceil_div(rows, kThreads / kWarp) : rows;
    const int64_t most = std::min(wanted / std::max<int64_t>(blocks, 1), n / kLeast);
    if (most <= 1 || warps) return;
    chunk = ceil_div(ceil_div(n, most), 16) * 16;  // keeps packs aligned
    chunks = ceil_div(n, chunk);
  }
  __device__ __forceinline__ int64_t begin(int64_t c) const { return c * chunk; }
  __device__ __forceinline__ int64_t end(int64_t c) const {
    return (c + 1) * chunk < n ? (c + 1) * chunk : n;
  }
  dim3 grid(int width) const {
    return dim3(static_cast<unsigned>(ceil_div(rows, kThreads / width)),
                static_cast<unsigned>(chunks));
  }
};

// Calls f(integer_sequence<int, threads a row or chunk, elements a pack>).
template <class T, class F>
void visit_row_chunks(const RowChunks& rows, const Tensor& x, F&& f) {
  constexpr int V = 16 / sizeof(T);
  const bool packed = is_aligned(x.data(), 16) && (rows.rows == 1 || rows.n % V == 0);
  if (rows.warps && packed) f(std::integer_sequence<int, kWarp, V>{});
  else if (rows.warps) f(std::integer_sequence<int, kWarp, 1>{});
  else if (packed) f(std::integer_sequence<int, kThreads, V>{});
  else f(std::integer_sequence<int, kThreads, 1>{});
}

}  // namespace vt::cuda
