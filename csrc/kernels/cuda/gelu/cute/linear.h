// The launches of products with a bias, with another matrix added to that, and of those that are
// the gradient of a layer's input, for one type.
#pragma once
#include "kernels/cuda/gelu/cute/kernel.h"

namespace vt::cuda::gelu {

template <class T>
void launch_linear(const Queue& queue, const Gemm& g) {
  using N = Number<T>;
  using Kernels = Assembled<N, Tile<kManyColumns>, Linear<N, Tile<kManyColumns>>>;
  auto arguments = arguments_of<N, Kernels>(queue, g);
  arguments.epilogue.thread.op_1.ptr_row = static_cast<const N*>(g.bias);
  launch<Kernels>(queue, arguments);
}

template <class T>
void launch_linear_add(const Queue& queue, const Gemm& g) {
  using N = Number<T>;
  using Kernels = Assembled<N, Tile<kManyColumns>, LinearAdd<N, Tile<kManyColumns>>>;
  auto arguments = arguments_of<N, Kernels>(queue, g);
  arguments.epilogue.ptr_C = static_cast<const N*>(g.addend);
  cute::get<0>(arguments.epilogue.dC) = g.out.row_stride;
  arguments.epilogue.thread.op_0.op_1.ptr_row = static_cast<const N*>(g.bias);
  launch<Kernels>(queue, arguments);
}

template <class T>
void launch_plain(const Queue& queue, const Gemm& g) {
  using N = Number<T>;
  using Kernels = Assembled<N, Tile<kManyColumns>, Plain<N>>;
  launch<Kernels>(queue, arguments_of<N, Kernels>(queue, g));
}

}  // namespace vt::cuda::gelu
