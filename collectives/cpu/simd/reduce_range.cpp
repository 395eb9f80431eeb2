// Reduces a range piece by piece: a piece of the sum stays in the cache while every rank's part is
// added, and is then written to all outputs, so that memory is passed over once.
#include "collectives/cpu/reduce_range.h"

#include "collectives/reduce.h"
#include "kernels/cpu/simd/convert.h"

namespace vt::collectives::VT_ISA {
namespace {

namespace simd = vt::cpu::VT_ISA;

constexpr int64_t kPiece = 1024;  // elements

template <class T, class Op, bool kAverage>
void reduce(const Buffers& buffers, int64_t begin, int64_t end) {
  using Acc = compute_t<T>;
  constexpr bool kConverts = !std::is_same_v<T, Acc>;
  alignas(64) Acc sum[kPiece];
  alignas(64) Acc scratch[kConverts ? kPiece : 1];
  alignas(64) T rounded[kConverts ? kPiece : 1];
  const int ranks = buffers.ranks;
  for (int64_t at = begin; at < end; at += kPiece) {
    const int64_t count = end - at < kPiece ? end - at : kPiece;
    const auto part = [&](int rank) {
      return simd::load(static_cast<const T*>(buffers.in[rank]) + at, scratch, count);
    };
    __builtin_memcpy(sum, part(0), count * sizeof(Acc));
    for (int r = 1; r < ranks; ++r) {
      const Acc* next = part(r);
      for (int64_t i = 0; i < count; ++i) sum[i] = Op::combine(sum[i], next[i]);
    }
    if constexpr (kAverage)
      for (int64_t i = 0; i < count; ++i) sum[i] = average(sum[i], ranks);
    simd::store(rounded, sum, count);
    const void* result = kConverts ? static_cast<const void*>(rounded) : sum;
    for (int p = 0; p < buffers.outputs; ++p)
      __builtin_memcpy(static_cast<T*>(buffers.out[p]) + at, result, count * sizeof(T));
  }
}

template <class T>
ReduceRange choose(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum: return reduce<T, Sum, false>;
    case ReduceOp::kAvg: return reduce<T, Sum, true>;
    case ReduceOp::kProd: return reduce<T, Prod, false>;
    case ReduceOp::kMin: return reduce<T, Min, false>;
    default: return reduce<T, Max, false>;
  }
}

}  // namespace

ReduceRange reduce_range(DType dtype, ReduceOp op) {
  switch (dtype) {
    case DType::kU8: return choose<uint8_t>(op);
    case DType::kI8: return choose<int8_t>(op);
    case DType::kI32: return choose<int32_t>(op);
    case DType::kI64: return choose<int64_t>(op);
    case DType::kF16: return choose<Half>(op);
    case DType::kBF16: return choose<BFloat16>(op);
    case DType::kF32: return choose<float>(op);
    case DType::kF64: return choose<double>(op);
    default: return nullptr;
  }
}

}  // namespace vt::collectives::VT_ISA
