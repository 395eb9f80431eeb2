// Tensor maps of heads.
#include "kernels/cuda/attention_gradients/maps.h"

#include "base/error.h"
#include "device/cuda/driver.h"

namespace vt::cuda::attention_gradients {
namespace {

using Encode = decltype(cuTensorMapEncodeTiled);

bool is_step(int64_t stride) {
  constexpr int64_t kMost = int64_t{1} << 39;  // elements of 2 bytes
  return stride > 0 && stride % 8 == 0 && stride < kMost;
}

}  // namespace

bool has_map(const HeadedTensor& t) {
  return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && is_step(t.token_stride) &&
         is_step(t.head_stride) && is_step(t.batch_stride);
}

CUtensorMap heads_map(const HeadedTensor& t, DType dtype, int64_t batch, int64_t heads,
                      int64_t tokens, int64_t width) {
  static Encode* const encode = driver_function_as<Encode>("cuTensorMapEncodeTiled", 12000);
  const auto size = [](int64_t x) { return static_cast<cuuint64_t>(x); };
  const cuuint64_t sizes[] = {size(width), size(tokens), size(heads), size(batch)};
  const cuuint64_t strides[] = {size(t.token_stride * 2), size(t.head_stride * 2),
                                size(t.batch_stride * 2)};
  const cuuint32_t box[] = {64, 64, 1, 1}, steps[] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult code = encode(
      &map,
      dtype == DType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4,
      t.data, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  VT_CHECK(code == CUDA_SUCCESS, kRuntime, "attention: the driver makes no tensor map of ", batch,
           'x', heads, " heads of ", tokens, " tokens and width ", width, ", strides ",
           t.batch_stride, ", ", t.head_stride, ", ", t.token_stride, ": code ",
           static_cast<int>(code));
  return map;
}

}  // namespace vt::cuda::attention_gradients
