// Choosing among the instances of a kernel template for one type.
#pragma once
#include "collectives/collective.h"
#include "collectives/reduce.h"

namespace vt::collectives::gpu {

// VT_CHOOSE_KERNEL(all_reduce, T, op, ranks): the address of all_reduce<T, Op, kLanes>, where
// kLanes is the number of ranks rounded up to 2, 4 or 8; for all but sums 8.
#define VT_CHOOSE_KERNEL(kernel, T, op, ranks)                                   \
  ((op) == ReduceOp::kProd  ? reinterpret_cast<const void*>(&kernel<T, Prod, 8>) \
   : (op) == ReduceOp::kMin ? reinterpret_cast<const void*>(&kernel<T, Min, 8>)  \
   : (op) == ReduceOp::kMax ? reinterpret_cast<const void*>(&kernel<T, Max, 8>)  \
   : (ranks) <= 2           ? reinterpret_cast<const void*>(&kernel<T, Sum, 2>)  \
   : (ranks) <= 4           ? reinterpret_cast<const void*>(&kernel<T, Sum, 4>)  \
                            : reinterpret_cast<const void*>(&kernel<T, Sum, 8>))

// The same for the type of a group, or null if it is not in the group.
#define VT_CHOOSE_FLOAT_KERNEL(kernel, dtype, op, ranks)                     \
  ((dtype) == DType::kF16    ? VT_CHOOSE_KERNEL(kernel, Half, op, ranks)     \
   : (dtype) == DType::kBF16 ? VT_CHOOSE_KERNEL(kernel, BFloat16, op, ranks) \
   : (dtype) == DType::kF32  ? VT_CHOOSE_KERNEL(kernel, float, op, ranks)    \
   : (dtype) == DType::kF64  ? VT_CHOOSE_KERNEL(kernel, double, op, ranks)   \
                             : nullptr)
#define VT_CHOOSE_INTEGER_KERNEL(kernel, dtype, op, ranks)                 \
  ((dtype) == DType::kU8    ? VT_CHOOSE_KERNEL(kernel, uint8_t, op, ranks) \
   : (dtype) == DType::kI8  ? VT_CHOOSE_KERNEL(kernel, int8_t, op, ranks)  \
   : (dtype) == DType::kI32 ? VT_CHOOSE_KERNEL(kernel, int32_t, op, ranks) \
   : (dtype) == DType::kI64 ? VT_CHOOSE_KERNEL(kernel, int64_t, op, ranks) \
                            : nullptr)

}  // namespace vt::collectives::gpu
