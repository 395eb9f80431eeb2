// The launch of the kernel with GELU, for one type and tile.
#pragma once
#include "kernels/cuda/gelu/cute/kernel.h"

namespace vt::cuda::gelu {

template <class T, int kTileColumns, bool kSlope>
void launch_forward(const Queue& queue, const Gemm& g) {
  using N = Number<T>;
  using Kernels = Assembled<N, Tile<kTileColumns>, Forward<N, Tile<kTileColumns>, kSlope>>;
  auto arguments = arguments_of<N, Kernels>(queue, g);
  auto& tree = arguments.epilogue.thread;
  auto& [sum, store] = [&]() -> auto& {
    if constexpr (kSlope) return tree;
    else return tree.op_0;
  }();
  sum.op_1.ptr_row = static_cast<const N*>(g.bias);
  store.ptr_aux = static_cast<Beside<N, kSlope>*>(g.aux.data);
  cute::get<0>(store.dAux) = g.aux.row_stride;
  launch<Kernels>(queue, arguments);
}

}  // namespace vt::cuda::gelu
