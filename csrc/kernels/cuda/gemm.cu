// Matrix products: cuBLASLt, and what it leaves over.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vendor/cublaslt.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

// out = beta * out + bias: the start value of a product that is then added, or the whole result
// where k is 0.
template <class T>
__global__ void __launch_bounds__(kThreads)
    start_rows_kernel(T* out, const T* bias, int64_t rows, int64_t n, int64_t m, int64_t row_stride,
                      int64_t batch_stride, compute_t<T> beta) {
  using C = compute_t<T>;
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= n) return;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    T& element = out[row / m * batch_stride + row % m * row_stride + column];
    C value = beta == 0 ? C(0) : beta * convert<C>(element);
    if (bias) value += convert<C>(bias[column]);
    element = convert<T>(value);
  }
}

void start_rows(const Gemm& g) {
  const Queue queue("matmul", g.device);
  const int64_t rows = g.m * g.batch;
  visit_float("matmul", g.dtype, [&]<class T>(TypeTag<T>) {
    const dim3 grid(static_cast<unsigned>(ceil_div(g.n, kThreads)),
                    static_cast<unsigned>(std::min<int64_t>(rows, 65535)));
    queue.launch(&start_rows_kernel<T>, grid, kThreads, static_cast<T*>(g.out.data),
                 static_cast<const T*>(g.bias), rows, g.n, g.m, g.out.row_stride,
                 g.out.batch_stride, g.beta);
  });
}

}  // namespace

void gemm(const Gemm& gemm) {
  if (gemm.m == 0 || gemm.n == 0 || gemm.batch == 0) return;
  if (gemm.k > 0 && cublaslt_gemm(gemm)) return;
  start_rows(gemm);
  if (gemm.k == 0) return;
  Gemm rest = gemm;
  rest.bias = nullptr;
  rest.beta = 1;
  cublaslt_gemm(rest);
}

}  // namespace vt::cuda
