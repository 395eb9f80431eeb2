// The kernel of both sides.
#pragma once
#include "kernels/cuda/attention_gradients/consumer.h"
#include "kernels/cuda/launch.h"

namespace vt::cuda::attention_gradients {

template <class F>
__global__ void __launch_bounds__(F::kThreads, 1)
    gradients_kernel(const __grid_constant__ Maps maps, const __grid_constant__ Job job) {
#if VT_HAS_WGMMA
  await_earlier();
  extern __shared__ __align__(1024) char raw[];  // swizzled atoms are 1024 bytes
  const Memory<F> m(shared_address(raw));
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) {
      init_barrier(m.kept_full(i), 1);
      init_barrier(m.kept_empty(i), F::kGroups);
    }
    for (int i = 0; i < F::kStages; ++i) {
      init_barrier(m.full(i), 1);
      init_barrier(m.empty(i), 4 * F::kGroups);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x >= 128 * F::kGroups) {
    give_registers<F::kProducerRegisters>();
    if (threadIdx.x == 128 * F::kGroups) produce(m, maps, job);
  } else {
    take_registers<F::kRegisters>();
    Consumer<F>(m, job).run(maps);
  }
#endif
}

template <class F>
void launch(const Queue& queue, const Maps& maps, const Job& job) {
  const int blocks = std::min(queue.multiprocessors(), job.order.items);
  queue.allow_shared(reinterpret_cast<const void*>(&gradients_kernel<F>), F::kSharedBytes);
  queue.launch_shared<Start::kEarly>(&gradients_kernel<F>, dim3(static_cast<unsigned>(blocks)),
                                     dim3(F::kThreads), F::kSharedBytes, maps, job);
}

}  // namespace vt::cuda::attention_gradients
