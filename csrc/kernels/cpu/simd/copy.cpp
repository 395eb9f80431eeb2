// Copies between layouts and types, and tensors filled by a rule: copy, fill, arange, linspace.
#include <algorithm>
#include <cstring>

#include "device/cpu/parallel.h"
#include "kernels/cpu/simd/convert.h"
#include "kernels/cpu/simd/pointwise.h"
#include "kernels/cpu/simd/transpose.h"
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {
namespace {

constexpr int64_t kGrain = 16384;

// One element from S to D as PyTorch converts: nonzero is true, floats are cut towards zero.
template <class D, class S>
inline __attribute__((always_inline)) D converted(S value) {
  using C = compute_t<S>;
  const C v = static_cast<C>(value);
  if constexpr (std::is_same_v<D, bool>) return v != C(0);
  else if constexpr (is_half(DTypeOf<D>::value)) return D(static_cast<float>(v));
  else if constexpr (std::is_floating_point_v<C> && sizeof(D) == 1)
    return static_cast<D>(
        static_cast<int32_t>(v));  // negative to uint8 wraps instead of being undefined
  else return static_cast<D>(v);
}

template <class S, class D>
void convert_loop(const void*, char* out, const char* const* in, int64_t n) {
  D* o = reinterpret_cast<D*>(out);
  const S* a = reinterpret_cast<const S*>(in[0]);
  if constexpr (is_half(DTypeOf<S>::value) && std::is_same_v<D, float>) {
    to_float(o, a, n);
  } else if constexpr (is_half(DTypeOf<D>::value) && std::is_same_v<S, float>) {
    from_float(o, a, n);
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) o[i] = converted<D>(a[i]);
  }
}
template <int Size>
void same_loop(const void*, char* out, const char* const* in, int64_t n) {
  std::memcpy(out, in[0], static_cast<size_t>(n) * Size);
}
PointwiseLoop same_type_loop(size_t size) {
  switch (size) {
    case 1: return same_loop<1>;
    case 2: return same_loop<2>;
    case 4: return same_loop<4>;
    default: return same_loop<8>;
  }
}
PointwiseLoop copy_loop(DType from, DType to) {
  if (from == to) return same_type_loop(item_size(from));
  return visit_dtype(from, [&](auto s) {
    return visit_dtype(to, [&](auto d) -> PointwiseLoop {
      return convert_loop<typename decltype(s)::type, typename decltype(d)::type>;
    });
  });
}

PointwiseJob copy_job(PointwiseLoop loop, size_t out_size, size_t in_size) {
  PointwiseJob job{};
  job.loop = loop;
  job.inputs = 1;
  job.scalar_at = kNoScalar;
  job.size[0] = static_cast<uint8_t>(out_size);
  job.size[1] = static_cast<uint8_t>(in_size);
  job.half = DType::kBool;
  return job;
}

}  // namespace

void copy(const Tensor& dst, const Tensor& src) {
  const Tensor* inputs[] = {&src};
  const ElementwisePlan plan = plan_elementwise(dst, inputs);
  const bool same = dst.dtype() == src.dtype();
  if (same && !plan.dense && transpose_copy(plan, static_cast<int64_t>(dst.item_size()))) return;
  run_job(plan, copy_job(copy_loop(src.dtype(), dst.dtype()), dst.item_size(), src.item_size()));
}

void fill(const Tensor& dst, Scalar value) {
  visit_dtype(dst.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T number = value.to<T>();
    if (dst.is_dense()) {
      T* out = dst.data<T>();
      parallel_for(dst.numel(), kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) out[i] = number;
      });
      return;
    }
    const ElementwisePlan plan = plan_elementwise(dst, {});
    PointwiseJob job = copy_job(same_type_loop(sizeof(T)), sizeof(T), sizeof(T));
    job.scalar_at = 0;
    job.scalar = &number;
    run_job(plan, job);
  });
}

void arange(const Tensor& out, Scalar start, Scalar step) {
  visit_dtype(out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* o = out.data<T>();
    parallel_for(out.numel(), kGrain, [&](int64_t begin, int64_t end) {
      if constexpr (is_float(DTypeOf<T>::value)) {
        const double a = start.to<double>(), s = step.to<double>();
        for (int64_t i = begin; i < end; ++i) o[i] = converted<T>(a + static_cast<double>(i) * s);
      } else {
        // A float start or step of an integer tensor is cut towards zero first, as in PyTorch.
        const auto a = static_cast<uint64_t>(start.to<int64_t>()),
                   s = static_cast<uint64_t>(step.to<int64_t>());
        for (int64_t i = begin; i < end; ++i)
          o[i] = converted<T>(static_cast<int64_t>(a + static_cast<uint64_t>(i) * s));
      }
    });
  });
}

void linspace(const Tensor& out, double start, double end_value) {
  const int64_t n = out.numel();
  const double step = n > 1 ? (end_value - start) / static_cast<double>(n - 1) : 0;
  visit_dtype(out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* o = out.data<T>();
    parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        o[i] = converted<T>(i < (n + 1) / 2 ? start + static_cast<double>(i) * step
                                            : end_value - static_cast<double>(n - 1 - i) * step);
    });
  });
}

}  // namespace vt::cpu::VT_ISA
