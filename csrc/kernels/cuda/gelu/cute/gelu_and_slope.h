// A node of the epilogue's tree that makes two tensors of one: GELU, which it passes on, and its
// slope, which it stores.
#pragma once
#include <cutlass/epilogue/fusion/sm90_visitor_tma_warpspecialized.hpp>

#include "kernels/cuda/gelu/cute/formulas.h"

namespace vt::cuda::gelu {

// Store: the node that stores what it gets, whose arguments these are.
template <class Store>
struct GeluAndSlope : Store {
  using Store::Store;

  template <class Stores>
  struct Callbacks : Stores {
    CUTLASS_DEVICE explicit Callbacks(Stores&& stores) : Stores(cute::move(stores)) {}

    template <class Accumulator, int N>
    CUTLASS_DEVICE cutlass::Array<float, N> visit(const cutlass::Array<Accumulator, N>& product,
                                                  int part, int part_m, int part_n,
                                                  const cutlass::Array<float, N>& x) {
      cutlass::Array<float, N> gelu, slope;
      gelu_and_slope(gelu, slope, x);
      Stores::visit(product, part, part_m, part_n, slope);
      return gelu;
    }
  };

  template <bool kReferenceSource, class... Args>
  CUTLASS_DEVICE auto get_consumer_store_callbacks(
      const cutlass::epilogue::fusion::detail::ConsumerStoreArgs<Args...>& args) {
    auto stores = Store::template get_consumer_store_callbacks<kReferenceSource>(args);
    return Callbacks<decltype(stores)>(cute::move(stores));
  }
};

}  // namespace vt::cuda::gelu
