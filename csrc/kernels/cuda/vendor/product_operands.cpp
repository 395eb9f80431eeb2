// Memory and contents of operands for timing.
#include "kernels/cuda/vendor/product_operands.h"

#include <algorithm>

#include "device/cuda/allocator.h"
#include "device/cuda/check.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/vendor/product_probe.h"

namespace vt::cuda::cublaslt {
namespace {

constexpr int64_t kMostSets = 32;

// Elements from the first to the last of column-major matrices.
int64_t span(int64_t rows, int64_t cols, int64_t operation, int64_t ld, int64_t batch,
             int64_t stride) {
  if (operation == kTranspose) std::swap(rows, cols);
  return (cols - 1) * ld + rows + (batch - 1) * stride;
}

int64_t cache_bytes(int index) {
  int bytes = 0;
  VT_CUDA(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, index));
  return bytes;
}

}  // namespace

void OperandSets::Release::operator()(void* data) const { deallocate(index, data); }

OperandSets::Block OperandSets::block(int64_t elements, int64_t alignment, uint64_t seed,
                                      void** data) const {
  const auto bytes = static_cast<size_t>(elements) * item_size(dtype_);
  Block result(allocate(device_.index, bytes + 16), Release{device_.index});
  // Blocks lie at 16 bytes and more: pointers are no better aligned than those they stand for.
  *data = static_cast<char*>(result.get()) + (alignment < 16 ? alignment : 0);
  fill_for_timing(device_, dtype_, *data, elements, seed << 40);
  return result;
}

OperandSets::OperandSets(const Key& key, int index)
    : key_(key), device_(device_at(index)), dtype_(static_cast<DType>(key.dtype)) {
  const int64_t a = span(key.n, key.k, key.a_operation, key.a_ld, key.batch, key.a_stride),
                b = span(key.k, key.m, key.b_operation, key.b_ld, key.batch, key.b_stride);
  out_elements_ = span(key.n, key.m, kNoTranspose, key.out_ld, key.batch, key.out_stride);
  if (key.aux_ld) aux_elements_ = span(key.n, key.m, kNoTranspose, key.aux_ld, 1, 0);
  const int64_t bytes =
      (a + b + out_elements_ + aux_elements_) * static_cast<int64_t>(item_size(dtype_));
  const int64_t count = std::clamp<int64_t>(2 * cache_bytes(index) / bytes + 1, 1, kMostSets);
  const int64_t a_alignment = key.alignments & 0xff, b_alignment = key.alignments >> 8 & 0xff,
                out_alignment = key.alignments >> 16 & 0xff;
  uint64_t seed = 0;
  for (int64_t i = 0; i < count; ++i) {
    Set& set = sets_.emplace_back();
    Gemm& gemm = set.gemm;
    gemm = {.device = device_,
            .dtype = dtype_,
            .m = key.m,
            .n = key.n,
            .k = key.k,
            .batch = key.batch,
            .a = {},
            .b = {},
            .out = {}};
    set.a = block(a, a_alignment, ++seed, &gemm.b.data);  // its A is our b
    set.b = block(b, b_alignment, ++seed, &gemm.a.data);
    gemm.out = {nullptr, key.out_ld, 1, key.out_stride};
    set.out = block(out_elements_, out_alignment, ++seed, &gemm.out.data);
    if (key.aux_ld) {
      gemm.aux = {nullptr, key.aux_ld, 1, 0};
      set.aux = block(aux_elements_, out_alignment, ++seed, &gemm.aux.data);
    }
    if (key.epilogue & kEpilogueBias) {
      void* bias = nullptr;
      set.bias = block(key.n, out_alignment, ++seed, &bias);
      gemm.bias = bias;
    }
    if (key.adds) {
      void* addend = nullptr;
      set.addend = block(out_elements_, out_alignment, ++seed, &addend);
      gemm.addend = addend;
    }
  }
}

void OperandSets::blot(int byte) const {
  const Gemm& gemm = sets_.front().gemm;
  const cudaStream_t stream = current_stream(device_.index);
  auto over = [&](void* data, int64_t elements) {
    VT_CUDA(cudaMemsetAsync(data, byte, static_cast<size_t>(elements) * item_size(dtype_), stream));
  };
  over(gemm.out.data, out_elements_);
  if (key_.epilogue & kEpilogueGelu && gemm.aux.data) over(gemm.aux.data, aux_elements_);
}

uint64_t OperandSets::results() const {
  const Gemm& gemm = sets_.front().gemm;
  uint64_t result = fingerprint(device_, dtype_, gemm.out, gemm.m, gemm.n, gemm.batch);
  if (key_.epilogue & kEpilogueGelu && gemm.aux.data)
    result = result * 3 + fingerprint(device_, dtype_, gemm.aux, gemm.m, gemm.n, 1);
  return result;
}

}  // namespace vt::cuda::cublaslt
