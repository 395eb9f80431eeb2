// Gradients of queries.
#include "kernels/cuda/attention_gradients/kernel.h"
#include "kernels/cuda/attention_gradients/launch.h"

namespace vt::cuda::attention_gradients {
namespace {

template <class T>
void launch_width(const Queue& queue, int64_t width, const Maps& maps, const Job& job) {
  if (width == 64) launch<Form<T, Side::kQueries, 64>>(queue, maps, job);
  else launch<Form<T, Side::kQueries, 128>>(queue, maps, job);
}

}  // namespace

void launch_queries(const Queue& queue, DType dtype, int64_t width, const Maps& maps,
                    const Job& job) {
  if (dtype == DType::kF16) launch_width<Half>(queue, width, maps, job);
  else launch_width<BFloat16>(queue, width, maps, job);
}

}  // namespace vt::cuda::attention_gradients
