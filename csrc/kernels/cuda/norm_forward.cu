// Layer norm and RMS norm, with the sum of a residual before it, and dropout before that.
#include "kernels/cuda/drop_pack.h"
#include "kernels/cuda/held_row.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/rows.h"
#include "kernels/structured_cuda.h"

namespace vt::cuda {
namespace {

template <class T, int V>
__device__ __forceinline__ Pack<T, V> normalised(const NormForward<T>& a, const Pack<T, V>& x,
                                                 const Pack<T, V>& weight, const Pack<T, V>& bias,
                                                 compute_t<T> mean, compute_t<T> rstd) {
  using C = compute_t<T>;
  Pack<C, V> values = widen<C>(x);
#pragma unroll
  for (C& value : values.v) value = (value - mean) * rstd;
  if (a.weight) {
    const Pack<C, V> w = widen<C>(weight);
#pragma unroll
    for (int j = 0; j < V; ++j) values.v[j] *= w.v[j];
  }
  if (a.bias) {
    const Pack<C, V> b = widen<C>(bias);
#pragma unroll
    for (int j = 0; j < V; ++j) values.v[j] += b.v[j];
  }
  return narrow<T>(values);
}

// The pack x + residual, rounded to T as it is stored.
template <class C, class T, int V>
__device__ __forceinline__ void add_pack(Pack<T, V>& x, const Pack<T, V>& residual) {
  Pack<C, V> sum = widen<C>(x);
  const Pack<C, V> other = widen<C>(residual);
#pragma unroll
  for (int j = 0; j < V; ++j) sum.v[j] += other.v[j];
  x = narrow<T>(sum);
}

template <class C, class T, int V>
__device__ __forceinline__ C pack_sum(C sum, const Pack<T, V>& x) {
  const Pack<C, V> values = widen<C>(x);
#pragma unroll
  for (const C value : values.v) sum += value;
  return sum;
}
template <class C, class T, int V>
__device__ __forceinline__ C pack_squares(C sum, const Pack<T, V>& x, C mean) {
  const Pack<C, V> values = widen<C>(x);
#pragma unroll
  for (const C value : values.v) sum += (value - mean) * (value - mean);
  return sum;
}

// Where the random numbers of a kernel begin; the first thread notes it.
__device__ __forceinline__ PhiloxStart begin_numbers(const NormDropout& drop) {
  const PhiloxStart start = drop.state.start();
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    drop.begun[0] = start.seed;
    drop.begun[1] = start.offset;
  }
  return start;
}

template <class T>
__device__ __forceinline__ void store_statistics(const NormForward<T>& a, int64_t row,
                                                 compute_t<T> mean, compute_t<T> rstd) {
  if (a.means) a.means[row] = mean;
  a.rstds[row] = rstd;
}

// Are weights asked for together with the row? More of them would take too many registers.
constexpr bool affine_ahead(int width, int packs) { return packs <= 3 || width == 64; }
// What is read at least, and written, if the cache shall not hold it: half of a large one.
constexpr int64_t kPassing = 32 << 20;
// Blocks that a multiprocessor should hold: with 64 registers a thread, or a few more.
constexpr int norm_blocks(int width, int packs, bool residual, bool drop) {
  if (width == 256 && packs == 2) return residual ? 4 : 6;
  const bool more = packs == 4 ? width == 64 : residual && packs == 3;
  return drop ? 1 : 65536 / (more ? 72 : 64) / held_block(width);
}

// kWidth threads a row, each with kPacks packs of it.
template <class T, int kWidth, int kPacks, bool kResidual, bool kDrop>
__global__ void __launch_bounds__(held_block(kWidth), norm_blocks(kWidth, kPacks, kResidual, kDrop))
    norm_kernel(NormForward<T> a, NormDropout drop) {
  await_earlier();
  using C = compute_t<T>;
  using Row = RegisterRow<T, kWidth, kPacks>;
  constexpr bool kAhead = affine_ahead(kWidth, kPacks);
  const int64_t row = int64_t{blockIdx.x} * (held_block(kWidth) / kWidth) + threadIdx.x / kWidth;
  if (row >= a.rows) return;  // a whole group of threads
  const int lane = threadIdx.x % kWidth, n = static_cast<int>(a.n);
  const int64_t at = row * a.n;
  Row x, weight, bias;
  auto load_affine = [&] {
    if (a.weight) weight.load(a.weight, n, lane);
    if (a.bias) bias.load(a.bias, n, lane);
  };
  // Short rows are too little work to choose a policy for.
  constexpr bool kPolicy = kWidth * kPacks > kWarp;
  const CachePolicy policy(kPolicy && a.passing);
  auto load = [&](Row& row, const T* from) {
    if constexpr (kPolicy) row.load(from, n, lane, policy);
    else row.load(from, n, lane);
  };
  load(x, a.x + at);
  if constexpr (kResidual) {
    constexpr bool kAll = kAhead && kPacks <= 3;  // registers for everything at once
    Row residual;
    load(residual, a.residual + at);
    if constexpr (kAll) load_affine();
    if constexpr (kDrop) {
      const PhiloxStart start = begin_numbers(drop);
      x.each(n, lane, [&](int i, auto& pack, int) {
        drop_pack(pack, at + i, drop.least, drop.scale, start);
      });
    }
    x.each(n, lane, [&](int, auto& pack, int p) { add_pack<C>(pack, residual.packs[p]); });
    if constexpr (kPolicy) x.store(a.sum + at, n, lane, policy);
    else x.store(a.sum + at, n, lane);
    if constexpr (kAhead && !kAll) load_affine();
  } else if constexpr (kAhead) {
    load_affine();
  }
  C mean = 0;
  if (a.means) {
    C sum = 0;
    x.each(n, lane, [&](int, const auto& pack, int) { sum = pack_sum(sum, pack); });
    mean = row_reduce<kWidth, 0>(sum, AddOp{}) / static_cast<C>(n);
  }
  C squares = 0;
  x.each(n, lane, [&](int, const auto& pack, int) { squares = pack_squares(squares, pack, mean); });
  squares = row_reduce<kWidth, 1>(squares, AddOp{});
  const C rstd = math::rsqrt(squares / static_cast<C>(n) + a.eps);
  if (lane == 0) store_statistics(a, row, mean, rstd);
  constexpr bool kOneByOne = kWidth * kPacks == 4096;  // no registers for more
  if constexpr (!kAhead && !kOneByOne) load_affine();
  x.each(n, lane, [&](int i, const auto& pack, int p) {
    using Held = Pack<T, Row::V>;
    if constexpr (kOneByOne) {
      if (a.weight) weight.packs[p] = *reinterpret_cast<const Held*>(a.weight + i);
      if (a.bias) bias.packs[p] = *reinterpret_cast<const Held*>(a.bias + i);
    }
    const Held result = normalised(a, pack, weight.packs[p], bias.packs[p], mean, rstd);
    auto* to = reinterpret_cast<Held*>(a.out + at + i);
    if constexpr (kPolicy) policy.store(to, result);
    else *to = result;
  });
}

// Rows of any length and alignment: three walks, of which the later ones find the row in the cache.
template <class T, int kWidth, int V, bool kDrop>
__global__ void __launch_bounds__(kThreads) norm_walk_kernel(NormForward<T> a, NormDropout drop) {
  await_earlier();
  using C = compute_t<T>;
  const int64_t row = row_of_group<kWidth>();
  if (row >= a.rows) return;
  const int lane = threadIdx.x % kWidth;
  const int64_t at = row * a.n;
  const T* x = (a.residual ? a.sum : a.x) + at;
  auto each = [&](auto&& f) {
    for (int64_t i = lane * V; i < a.n; i += kWidth * V)
      f(i, *reinterpret_cast<const Pack<T, V>*>(x + i));
  };
  if (a.residual) {
    PhiloxStart start{};
    if constexpr (kDrop) start = begin_numbers(drop);
    for (int64_t i = lane * V; i < a.n; i += kWidth * V) {
      auto pack = *reinterpret_cast<const Pack<T, V>*>(a.x + at + i);
      if constexpr (kDrop) drop_pack(pack, at + i, drop.least, drop.scale, start);
      add_pack<C>(pack, *reinterpret_cast<const Pack<T, V>*>(a.residual + at + i));
      *reinterpret_cast<Pack<T, V>*>(a.sum + at + i) = pack;  // the same thread reads it again
    }
  }
  C mean = 0;
  if (a.means) {
    C sum = 0;
    each([&](int64_t, const auto& pack) { sum = pack_sum(sum, pack); });
    mean = group_sum<kWidth>(sum) / static_cast<C>(a.n);
  }
  C squares = 0;
  each([&](int64_t, const auto& pack) { squares = pack_squares(squares, pack, mean); });
  const C rstd = math::rsqrt(group_sum<kWidth>(squares) / static_cast<C>(a.n) + a.eps);
  if (lane == 0) store_statistics(a, row, mean, rstd);
  each([&](int64_t i, const auto& pack) {
    Pack<T, V> weight{}, bias{};
    if (a.weight) weight = *reinterpret_cast<const Pack<T, V>*>(a.weight + i);
    if (a.bias) bias = *reinterpret_cast<const Pack<T, V>*>(a.bias + i);
    *reinterpret_cast<Pack<T, V>*>(a.out + at + i) = normalised(a, pack, weight, bias, mean, rstd);
  });
}

template <bool kDrop, class T>
bool in_registers(const Queue& queue, const NormForward<T>& a, const NormDropout& drop) {
  auto launch = [&]<class Shape>(Shape) {
    constexpr int W = Shape::width, P = Shape::packs, block = held_block(W);
    auto kernel = &norm_kernel<T, W, P, true, kDrop>;
    if constexpr (!kDrop) {
      if (!a.residual) kernel = &norm_kernel<T, W, P, false, false>;
    }
    queue.launch_early(kernel, ceil_div(a.rows, block / W), block, a, drop);
  };
  const auto packs = a.n * static_cast<int64_t>(sizeof(T)) / 16;
  if (packs > 256 && packs <= 512) {  // two packs a thread, with the weights asked for early
    launch(RowShape<256, 2>{});
    return true;
  }
  return choose_row_shape<RowShape<32, 1>, RowShape<32, 2>, RowShape<32, 3>, RowShape<64, 2>,
                          RowShape<64, 4>, RowShape<128, 4>, RowShape<256, 4>, RowShape<1024, 2>,
                          RowShape<1024, 4>>(packs, launch);
}

template <bool kDrop>
void run(const Tensor& out, const Tensor& sum, const Tensor& mean, const Tensor& rstd,
         const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
         double eps, const NormDropout& drop) {
  if (x.numel() == 0) return;
  const char* op = mean.defined() ? "layer_norm" : "rms_norm";
  const Queue queue(op, x.device());
  visit_float(op, x.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    const NormForward<T> a{out.data<T>(),
                           data_or_null<T>(sum),
                           data_or_null<C>(mean),
                           rstd.data<C>(),
                           x.data<T>(),
                           data_or_null<T>(residual),
                           data_or_null<T>(weight),
                           data_or_null<T>(bias),
                           x.sizes()[0],
                           x.sizes()[1],
                           static_cast<C>(eps),
                           static_cast<int64_t>(x.bytes()) >= kPassing};
    const auto tensors = {&out, &sum, &x, &residual, &weight, &bias};
    if (rows_are_packed<T>(a.n, tensors) && in_registers<kDrop>(queue, a, drop)) return;
    for_row_shape<T>(a.n, tensors, [&]<int kWidth, int V>(std::integer_sequence<int, kWidth, V>) {
      queue.launch_early(&norm_walk_kernel<T, kWidth, V, kDrop>, row_blocks<kWidth>(a.rows),
                         kThreads, a, drop);
    });
  });
}

}  // namespace

void norm(const Tensor& out, const Tensor& sum, const Tensor& mean, const Tensor& rstd,
          const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
          double eps) {
  run<false>(out, sum, mean, rstd, x, residual, weight, bias, eps,
             {nullptr, 0, 0, PhiloxState(uint64_t{0}, uint64_t{0})});
}

void dropout_norm(const Tensor& out, const Tensor& sum, const Tensor& begun, const Tensor& mean,
                  const Tensor& rstd, const Tensor& x, const Tensor& residual, const Tensor& weight,
                  const Tensor& bias, double eps, double p, PhiloxState state) {
  run<true>(out, sum, mean, rstd, x, residual, weight, bias, eps,
            {begun.data<uint64_t>(), random::least_kept(p), random::kept_scale(p), state});
}

}  // namespace vt::cuda
