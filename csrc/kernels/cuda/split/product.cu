// Which products of float32 go to the tensor cores, and their launch.
#include "kernels/cuda/split/product.h"

#include <optional>

#include "kernels/cuda/architecture.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/split/kernel.h"
#include "kernels/split_plan.h"

namespace vt::cuda {
namespace {

using namespace split;

// Adds the parts of k in their order.
__global__ void __launch_bounds__(256)
    add_parts_kernel(const float* sums, const Store store, const float* row_sums, float* row_out,
                     int m, int n, int parts) {
  await_earlier();
  const int fours = (n + 3) / 4;
  const int64_t at = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (row_sums && at < m) {
    float total = 0;
#pragma unroll 8
    for (int part = 0; part < parts; ++part) total += row_sums[int64_t{part} * m + at];
    row_out[at] = total;
  }
  if (at >= int64_t{m} * fours) return;
  const int row = static_cast<int>(at / fours), column = static_cast<int>(at % fours) * 4;
  const int64_t batch = blockIdx.y, apart = part_place(m, n, 1, 0, 0);
  const float* from = sums + part_place(m, n, batch * parts, row, column);
  float total[4] = {};
#pragma unroll 8
  for (int part = 0; part < parts; ++part) {
    const float4 x = *reinterpret_cast<const float4*>(from + part * apart);
    total[0] += x.x, total[1] += x.y, total[2] += x.z, total[3] += x.w;
  }
  store_four(store, batch, row, column, n, total);
}

bool is_lines(const void* data, int64_t stride, int64_t batch_stride) {
  return is_aligned(data, 16) && stride % 4 == 0 && batch_stride % 4 == 0;
}

struct Operand {
  Order order;
  int64_t stride;
};
// How a kernel reads an operand, of which `inner` and `rows` are the sizes: in whole lines only.
std::optional<Operand> operand(const GemmMatrix& x, int64_t row_stride, int64_t inner_stride,
                               int64_t rows, int64_t inner) {
  if (inner_stride == 1 && inner % 4 == 0 && is_lines(x.data, row_stride, x.batch_stride))
    return Operand{Order::kInner, row_stride};
  if (row_stride == 1 && rows % 4 == 0 && is_lines(x.data, inner_stride, x.batch_stride))
    return Operand{Order::kRows, inner_stride};
  return std::nullopt;
}

template <Order kA, Order kB, bool kSums>
void launch(const Queue& queue, const Product& p, unsigned grid) {
  const auto kernel = &split_product_kernel<kA, kB, kSums>;
  queue.allow_shared(reinterpret_cast<const void*>(kernel), kSharedBytes);
  queue.launch_shared<Start::kEarly>(kernel, grid, split::kThreads, kSharedBytes, p);
}

}  // namespace

bool split_gemm(const Gemm& g, bool& row_sums) {
  constexpr int64_t kMost = 0x7fffffff;
  if (g.dtype != DType::kF32 || g.m > kMost || g.n > kMost || g.k > kMost || g.batch > 65535)
    return false;
  const auto a = operand(g.a, g.a.row_stride, g.a.column_stride, g.m, g.k);
  const auto b = operand(g.b, g.b.column_stride, g.b.row_stride, g.n, g.k);
  if (!a || !b) return false;
  const Queue queue("matmul", g.device);
  if (!has_wgmma(queue.index())) return false;
  const SplitPlan plan = plan_split(g.m, g.n, g.k, g.batch, queue.multiprocessors());
  if (!split_pays(plan, g.m, g.n, g.k, g.batch, queue.multiprocessors())) return false;

  const bool lines = g.n % 4 == 0 && is_lines(g.out.data, g.out.row_stride, g.out.batch_stride) &&
                     (!g.bias || is_aligned(g.bias, 16)) &&
                     (!g.aux.data || is_lines(g.aux.data, g.aux.row_stride, 0));
  const Scratch<float> sums(queue, plan.parts == 1
                                       ? 0
                                       : part_place(static_cast<int>(g.m), static_cast<int>(g.n),
                                                    g.batch * plan.parts, 0, 0));
  const bool a_rows = a->order == Order::kRows, b_rows = b->order == Order::kRows;
  const bool sums_rows = g.row_sums && a_rows && b_rows && g.batch == 1;  // as weight gradients are
  const Scratch<float> row_parts(queue, sums_rows && plan.parts > 1 ? plan.parts * g.m : 0);
  Product p{.a = static_cast<const float*>(g.a.data),
            .b = static_cast<const float*>(g.b.data),
            .a_stride = a->stride,
            .b_stride = b->stride,
            .a_batch = g.a.batch_stride,
            .b_batch = g.b.batch_stride,
            .m = static_cast<int>(g.m),
            .n = static_cast<int>(g.n),
            .k = static_cast<int>(g.k),
            .tiles_m = static_cast<int>(ceil_div(g.m, split::kRows)),
            .tiles_n = static_cast<int>(ceil_div(g.n, kColumns)),
            .parts = plan.parts,
            .part = plan.part,
            .works = 0,
            .sums = sums.get(),
            .row_sums = !sums_rows       ? nullptr
                        : plan.parts > 1 ? row_parts.get()
                                         : static_cast<float*>(g.row_sums),
            .store = {.out = static_cast<float*>(g.out.data),
                      .bias = static_cast<const float*>(g.bias),
                      .aux = static_cast<float*>(g.aux.data),
                      .out_stride = g.out.row_stride,
                      .out_batch = g.out.batch_stride,
                      .aux_stride = g.aux.row_stride,
                      .alpha = static_cast<float>(g.alpha),
                      .beta = static_cast<float>(g.beta),
                      .epilogue = g.epilogue,
                      .lines = lines}};
  const int64_t works = int64_t{p.tiles_m} * p.tiles_n * plan.parts * g.batch;
  if (works > kMost) return false;
  p.works = static_cast<int>(works);
  const auto grid = static_cast<unsigned>(std::min<int64_t>(works, queue.multiprocessors()));
  if (sums_rows) launch<Order::kRows, Order::kRows, true>(queue, p, grid);
  else if (a_rows && b_rows) launch<Order::kRows, Order::kRows, false>(queue, p, grid);
  else if (a_rows) launch<Order::kRows, Order::kInner, false>(queue, p, grid);
  else if (b_rows) launch<Order::kInner, Order::kRows, false>(queue, p, grid);
  else launch<Order::kInner, Order::kInner, false>(queue, p, grid);
  row_sums |= sums_rows;
  if (plan.parts > 1) {
    const int64_t fours = g.m * ceil_div(g.n, 4);
    queue.launch_early(
        &add_parts_kernel,
        dim3(static_cast<unsigned>(ceil_div(fours, 256)), static_cast<unsigned>(g.batch)), 256,
        sums.get(), p.store, sums_rows ? row_parts.get() : nullptr, static_cast<float*>(g.row_sums),
        p.m, p.n, p.parts);
  }
  return true;
}

}  // namespace vt::cuda
