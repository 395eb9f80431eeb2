// The launch of the kernel with GELU, for one type and tile.
#pragma once
#include "kernels/cuda/gelu/cute/kernel.h"

namespace vt::cuda::gelu {

template <class T, int kTileColumns>
void launch_forward(const Queue& queue, const Gemm& g) {
  using N = Number<T>;
  using Kernels = Assembled<N, Tile<kTileColumns>, Forward<N, Tile<kTileColumns>>>;
  auto arguments = arguments_of<N, Kernels>(queue, g);
  auto& [kept, apply] = arguments.epilogue.thread;
  auto& [sum, store] = kept;
  sum.op_1.ptr_row = static_cast<const N*>(g.bias);
  store.ptr_aux = static_cast<N*>(g.aux.data);
  cute::get<0>(store.dAux) = g.aux.row_stride;
  launch<Kernels>(queue, arguments);
}

}  // namespace vt::cuda::gelu
