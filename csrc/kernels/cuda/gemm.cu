// Matrix products: float32 on tensor cores where that pays, those with GELU by kernels of our own,
// cuBLASLt, and what it leaves over.
#include "kernels/column_sums.h"
#include "kernels/cuda/gelu/product.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/split/product.h"
#include "kernels/cuda/vendor/cublaslt.h"
#include "kernels/pointwise_unary.h"
#include "kernels/settings.h"
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

// x is what the product left in out.
template <class T, GemmEpilogue E>
using AuxOf = std::conditional_t<std::is_same_v<T, BFloat16> &&
                                     (E == GemmEpilogue::kGeluSlope || E == GemmEpilogue::kTimes),
                                 Half, T>;
template <class T, GemmEpilogue E>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(T* out, void* beside_out, int64_t m, int64_t n, int64_t row_stride,
                  int64_t aux_stride) {
  using C = compute_t<T>;
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= n) return;
  for (int64_t row = blockIdx.y; row < m; row += gridDim.y) {
    T& element = out[row * row_stride + column];
    const C x = convert<C>(element);
    using A = AuxOf<T, E>;
    A* const aux = static_cast<A*>(beside_out);
    A* const beside = aux ? aux + row * aux_stride + column : nullptr;
    if constexpr (E == GemmEpilogue::kGelu) {
      if (beside) *beside = element;
      element = convert<T>(functor::GeluTanh<C>{}(x));
    } else if constexpr (E == GemmEpilogue::kGeluSlope) {
      *beside = convert<A>(functor::GeluSlope<C>{}(x));
      element = convert<T>(functor::GeluTanh<C>{}(x));
    } else if constexpr (E == GemmEpilogue::kTimes) {
      element = convert<T>(functor::GeluTimes<C>{}(x, convert<C>(*beside)));
    } else {
      element = convert<T>(functor::GeluTanhBackward<C>{}(x, convert<C>(*beside)));
    }
  }
}

dim3 grid_over(int64_t rows, int64_t columns) {
  return dim3(static_cast<unsigned>(ceil_div(columns, kThreads)),
              static_cast<unsigned>(std::min<int64_t>(rows, 65535)));
}

void start_rows(const Gemm& g) {
  const Queue queue("matmul", g.device);
  const int64_t rows = g.m * g.batch;
  visit_float("matmul", g.dtype, [&]<class T>(TypeTag<T>) {
    queue.launch(&start_rows_kernel<T>, grid_over(rows, g.n), kThreads, static_cast<T*>(g.out.data),
                 static_cast<const T*>(g.bias), rows, g.n, g.m, g.out.row_stride,
                 g.out.batch_stride, g.beta);
  });
}

void finish(const Gemm& g) {
  const Queue queue("matmul", g.device);
  visit_float("matmul", g.dtype, [&]<class T>(TypeTag<T>) {
    const auto kernel = [&] {
      switch (g.epilogue) {
        case GemmEpilogue::kGelu: return &finish_kernel<T, GemmEpilogue::kGelu>;
        case GemmEpilogue::kGeluSlope: return &finish_kernel<T, GemmEpilogue::kGeluSlope>;
        case GemmEpilogue::kTimes: return &finish_kernel<T, GemmEpilogue::kTimes>;
        default: return &finish_kernel<T, GemmEpilogue::kGeluBackward>;
      }
    }();
    queue.launch(kernel, grid_over(g.m, g.n), kThreads, static_cast<T*>(g.out.data), g.aux.data,
                 g.m, g.n, g.out.row_stride, g.aux.row_stride);
  });
}

// out = what the product is to be added to; the product with beta 1 does the rest.
Gemm started(const Gemm& g) {
  Gemm rest = g;
  rest.addend = nullptr;
  rest.beta = 1;
  if (g.addend == g.out.data) return rest;
  const Queue queue("matmul", g.device);
  const size_t item = item_size(g.dtype), width = static_cast<size_t>(g.n) * item,
               step = g.m == 1 ? width : static_cast<size_t>(g.out.row_stride) * item;
  VT_CUDA(cudaMemcpy2DAsync(g.out.data, step, g.addend, step, width, static_cast<size_t>(g.m),
                            cudaMemcpyDeviceToDevice, queue.stream()));
  return rest;
}

// Epilogues that only kernels made here know (gelu/product.h).
bool is_of_slope(const Gemm& gemm) {
  return gemm.epilogue == GemmEpilogue::kGeluSlope || gemm.epilogue == GemmEpilogue::kTimes;
}

// All but the column sums, and the row sums if it says so by false.
bool multiply(const Gemm& gemm) {
  bool row_sums = gemm.row_sums == nullptr;
  if (is_of_slope(gemm)) {
    Gemm rest = gemm;
    rest.epilogue = GemmEpilogue::kNone;
    rest.aux = {};
    row_sums = multiply(rest);
    finish(gemm);
    return row_sums;
  }
  if (gemm.addend) {
    if (gemm.k > 0 && is_half(gemm.dtype) && cublaslt_gemm(gemm)) return row_sums;
    return multiply(started(gemm));
  }
  if (gemm.k > 0 && kernel_settings().float32_products == Float32Products::kBF16x6 &&
      split_gemm(gemm, row_sums))
    return row_sums;
  if (gemm.k > 0 && cublaslt_gemm(gemm)) return row_sums;
  // One piece after the other: the epilogue, then the bias, is left to a kernel of its own.
  Gemm rest = gemm;
  rest.epilogue = GemmEpilogue::kNone;
  rest.aux = {};
  if (gemm.k == 0 || !cublaslt_gemm(rest)) {
    start_rows(rest);
    rest.bias = nullptr;
    rest.beta = 1;
    if (gemm.k > 0) cublaslt_gemm(rest);
  }
  if (gemm.epilogue != GemmEpilogue::kNone) finish(gemm);
  return row_sums;
}

}  // namespace

void gemm(const Gemm& gemm) {
  if (gemm.m == 0 || gemm.n == 0 || gemm.batch == 0) return;
  if (gemm.k > 0 && (gelu_product(gemm) || linear_product(gemm))) return;
  const auto add_up = [](const Tensor& sums, const Tensor& rows) {
    reduce(sums, rows, ReduceKind::kSum, 1u);
  };
  if (!multiply(gemm)) row_sums_of(gemm, add_up);
  if (gemm.column_sums) column_sums_of(gemm, add_up);
}

}  // namespace vt::cuda
