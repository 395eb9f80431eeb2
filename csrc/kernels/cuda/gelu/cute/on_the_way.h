// What nodes of an epilogue's tree have in common that look at a tile's numbers on their way.
#pragma once
#include <cutlass/epilogue/fusion/sm90_visitor_tma_warpspecialized.hpp>

namespace vt::cuda::gelu {

// Arguments as they are given, no memory of its own, nothing to load. Left to the node is
// get_consumer_store_callbacks.
template <class Given>
struct OnTheWay {
  struct SharedStorage {};
  using Arguments = Given;
  using Params = Given;

  template <class Shape>
  static constexpr Params to_underlying_arguments(const Shape&, const Arguments& arguments, void*) {
    return arguments;
  }
  template <class Shape>
  static bool can_implement(const Shape&, const Arguments&) {
    return true;
  }
  template <class Shape>
  static size_t get_workspace_size(const Shape&, const Arguments&) {
    return 0;
  }
  template <class Shape>
  static cutlass::Status initialize_workspace(const Shape&, const Arguments&, void*, cudaStream_t,
                                              cutlass::CudaHostAdapter* = nullptr) {
    return cutlass::Status::kSuccess;
  }

  CUTLASS_HOST_DEVICE OnTheWay() {}
  CUTLASS_HOST_DEVICE OnTheWay(const Params& params, const SharedStorage&) : params_(&params) {}

  CUTLASS_DEVICE bool is_producer_load_needed() const { return false; }
  CUTLASS_DEVICE bool is_C_load_needed() const { return false; }
  template <class... Args>
  CUTLASS_DEVICE auto get_producer_load_callbacks(
      const cutlass::epilogue::fusion::detail::ProducerLoadArgs<Args...>&) {
    return cutlass::epilogue::fusion::detail::EmptyProducerLoadCallbacks{};
  }

 protected:
  const Params* params_;
};

}  // namespace vt::cuda::gelu
