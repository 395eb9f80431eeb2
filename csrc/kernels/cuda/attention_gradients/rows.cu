// What weights and gradients of scores need to know of each query.
#include "kernels/cuda/attention_gradients/launch.h"
#include "kernels/cuda/attention_heads.h"

namespace vt::cuda::attention_gradients {
namespace {

// A lane takes eight features of a query, kEach queries far from each other.
constexpr int kEach = 4;

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    rows_kernel(float* shifts, float* deltas, const float* stats, const Heads<T> out,
                const Heads<T> dout, int heads, int queries, int padded) {
  await_earlier();
  constexpr int kLanes = kWidth / 8, kRows = kThreads / kLanes;
  const int head = static_cast<int>(blockIdx.y), batch = head / heads;
  const int line = static_cast<int>(threadIdx.x) % kLanes;
  const int first =
      static_cast<int>(blockIdx.x) * kRows * kEach + static_cast<int>(threadIdx.x) / kLanes;
  using Line = Pack<T, 8>;
  Line a[kEach] = {}, b[kEach] = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int row = first + i * kRows;
    if (row >= queries) continue;
    a[i] = reinterpret_cast<const Line*>(out.row(batch, head - batch * heads, row))[line];
    b[i] = reinterpret_cast<const Line*>(dout.row(batch, head - batch * heads, row))[line];
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    float sum = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j)
      sum = fmaf(static_cast<float>(a[i].v[j]), static_cast<float>(b[i].v[j]), sum);
#pragma unroll
    for (int step = 1; step < kLanes; step *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    const int row = first + i * kRows;
    if (line != 0 || row >= padded) continue;
    const int64_t to = int64_t{head} * padded + row;
    shifts[to] = row < queries ? stats[int64_t{head} * queries + row] * kLog2E : INFINITY;
    deltas[to] = sum;
  }
}

template <class T, int kWidth>
void launch_typed(const Queue& queue, const Attention& a, float* shifts, float* deltas,
                  int64_t padded) {
  const AttentionInputs<T> in(a, nullptr);
  const dim3 grid(static_cast<unsigned>(ceil_div(padded, kThreads / (kWidth / 8) * kEach)),
                  static_cast<unsigned>(a.batch * a.heads));
  queue.launch_early(&rows_kernel<T, kWidth>, grid, dim3(kThreads), shifts, deltas,
                     static_cast<const float*>(a.stats), in.out, in.dout, in.heads, in.queries,
                     static_cast<int>(padded));
}

}  // namespace

void launch_rows(const Queue& queue, const Attention& a, float* shifts, float* deltas,
                 int64_t padded) {
  const auto by_width = [&]<class T>(TypeTag<T>) {
    if (a.width == 64) launch_typed<T, 64>(queue, a, shifts, deltas, padded);
    else launch_typed<T, 128>(queue, a, shifts, deltas, padded);
  };
  if (a.dtype == DType::kF16) by_width(TypeTag<Half>{});
  else by_width(TypeTag<BFloat16>{});
}

}  // namespace vt::cuda::attention_gradients
