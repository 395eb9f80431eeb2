// Tensor maps of a product's operands.
#include "kernels/cuda/gelu/direct/maps.h"

#include "base/error.h"
#include "device/cuda/driver.h"
#include "kernels/cuda/gelu/direct/job.h"

namespace vt::cuda::direct {
namespace {

using Encode = decltype(cuTensorMapEncodeTiled);

cuuint64_t size_of(int64_t x) { return static_cast<cuuint64_t>(x); }

// Sizes and boxes in elements, the innermost first; strides in elements, of all but that.
template <size_t kRank>
CUtensorMap map_of(const void* data, const int64_t (&sizes)[kRank],
                   const int64_t (&strides)[kRank - 1], const cuuint32_t (&box)[kRank]) {
  static Encode* const encode = driver_function_as<Encode>("cuTensorMapEncodeTiled", 12000);
  cuuint64_t all[kRank], bytes[kRank - 1];
  cuuint32_t steps[kRank];
  for (size_t i = 0; i < kRank; ++i) {
    all[i] = size_of(sizes[i]);
    steps[i] = 1;
  }
  for (size_t i = 0; i + 1 < kRank; ++i) bytes[i] = size_of(strides[i] * 2);
  CUtensorMap map;
  const CUresult code =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kRank, const_cast<void*>(data), all, bytes,
             box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  VT_CHECK(code == CUDA_SUCCESS, kRuntime, "matmul: the driver makes no tensor map of ", kRank,
           " dimensions, the innermost ", sizes[0], " long: code ", static_cast<int>(code));
  return map;
}

}  // namespace

CUtensorMap left_map(const GemmMatrix& a, int64_t m, int64_t k) {
  return map_of<2>(a.data, {k, m}, {a.row_stride}, {kDepth, kRows});
}

CUtensorMap right_map(const GemmMatrix& b, int64_t n, int64_t k) {
  const int64_t row = b.column_stride;
  return map_of<5>(b.data, {k, 2, 4, 4, n / kGroup}, {row, kPack * row, 2 * row, kGroup * row},
                   {kDepth, 2, 4, 4, kGroups / kBlocks});
}

CUtensorMap right_map_along_columns(const void* b, int64_t n, int64_t k) {
  return map_of<3>(b, {64, k, n / 64}, {n, 64}, {64, kDepth / kBlocks, kColumns / 64});
}

}  // namespace vt::cuda::direct
