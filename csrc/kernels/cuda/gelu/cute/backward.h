// The launch of the kernel with GELU's gradient, for one type and tile.
#pragma once
#include "kernels/cuda/gelu/cute/kernel.h"

namespace vt::cuda::gelu {

template <class T, int kTileColumns, bool kSlope>
void launch_backward(const Queue& queue, const Gemm& g, float* sums) {
  using N = Number<T>;
  using Kernels = Assembled<N, Tile<kTileColumns>, Backward<N, Tile<kTileColumns>, kSlope>>;
  auto arguments = arguments_of<N, Kernels>(queue, g);
  arguments.epilogue.ptr_C = static_cast<const Beside<N, kSlope>*>(g.aux.data);
  cute::get<0>(arguments.epilogue.dC) = g.aux.row_stride;
  auto& [gradient, columns] = arguments.epilogue.thread;
  columns = {sums, ceil_div(g.n, kTileColumns) * kTileColumns};
  launch<Kernels>(queue, arguments);
}

}  // namespace vt::cuda::gelu
