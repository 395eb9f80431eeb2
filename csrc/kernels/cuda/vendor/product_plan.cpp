// Descriptors and the call itself.
#include "kernels/cuda/vendor/product_plan.h"

#include <algorithm>
#include <mutex>

#include "base/error.h"
#include "device/capture.h"
#include "device/cuda/allocator.h"
#include "device/cuda/device.h"
#include "device/cuda/graph_memsets.h"
#include "device/cuda/stream.h"
#include "kernels/settings.h"

namespace vt::cuda::cublaslt {
namespace {

// Scratch of one stream; products of a stream run one after the other, so they share it.
void* workspace_of(int index, cudaStream_t stream) {
  struct Entry {
    int index;
    cudaStream_t stream;
    void* data;
  };
  static std::mutex mutex;
  static auto* const entries = new std::vector<Entry>;
  thread_local Entry t_last{-1, nullptr, nullptr};
  if (t_last.index == index && t_last.stream == stream) return t_last.data;
  std::lock_guard lock(mutex);
  for (const Entry& entry : *entries)
    if (entry.index == index && entry.stream == stream) return (t_last = entry).data;
  entries->push_back({index, stream, allocate(index, kWorkspaceBytes)});
  return (t_last = entries->back()).data;
}

// A matrix as cuBLASLt sees it: column-major, perhaps transposed. `rows` is what op() gives.
struct Operand {
  Operation operation;
  int64_t ld;
};

// A column-major view of rows x cols elements at r * row_stride + c * column_stride.
std::optional<Operand> as_column_major(int64_t rows, int64_t cols, int64_t row_stride,
                                       int64_t column_stride) {
  const bool plain = (row_stride == 1 || rows == 1) && (cols == 1 || column_stride >= rows);
  const bool transposed = (column_stride == 1 || cols == 1) && (rows == 1 || row_stride >= cols);
  const Operand as_plain{kNoTranspose, cols == 1 ? rows : column_stride};
  const Operand as_transposed{kTranspose, rows == 1 ? cols : row_stride};
  if (plain && (!transposed || rows >= cols)) return as_plain;
  if (transposed) return as_transposed;
  return std::nullopt;
}

struct Types {
  cudaDataType_t data, scale;
  ComputeType compute;
};

Types types_of(DType dtype, bool tf32) {
  switch (dtype) {
    case DType::kF16: return {CUDA_R_16F, CUDA_R_32F, kCompute32F};
    case DType::kBF16: return {CUDA_R_16BF, CUDA_R_32F, kCompute32F};
    case DType::kF32: return {CUDA_R_32F, CUDA_R_32F, tf32 ? kCompute32FFastTF32 : kCompute32F};
    case DType::kF64: return {CUDA_R_64F, CUDA_R_64F, kCompute64F};
    default:
      fail(ErrorKind::kRuntime, "matmul: not implemented on CUDA for ", name(dtype),
           "; convert to a float type");
  }
}

uint32_t epilogue_of(const Gemm& g) {
  const uint32_t bias = g.bias ? kEpilogueBias : 0;
  switch (g.epilogue) {
    case GemmEpilogue::kGelu: return (g.aux.data ? kEpilogueGeluAux : kEpilogueGelu) | bias;
    case GemmEpilogue::kGeluBackward: return kEpilogueGeluBackward;
    case GemmEpilogue::kGeluSlope:
    case GemmEpilogue::kTimes:  // has none like these; never asked
    case GemmEpilogue::kNone: break;
  }
  return bias ? bias : kEpilogueDefault;
}

int64_t alignment_of(const void* data) {
  return std::min<int64_t>(16,
                           int64_t{1} << std::countr_zero(reinterpret_cast<uintptr_t>(data) | 16));
}

}  // namespace

Key make_key(const Gemm& g) {
  const auto a = as_column_major(g.n, g.k, g.b.column_stride, g.b.row_stride);
  const auto b = as_column_major(g.k, g.m, g.a.column_stride, g.a.row_stride);
  VT_CHECK(a && b && (g.m == 1 || g.out.row_stride >= g.n), kRuntime, "matmul: strides (",
           g.a.row_stride, ", ", g.a.column_stride, ") of the ", g.m, 'x', g.k, " matrix, (",
           g.b.row_stride, ", ", g.b.column_stride, ") of the ", g.k, 'x', g.n, " matrix and (",
           g.out.row_stride, ", ", g.out.column_stride,
           ") of the result are not those of a matrix or its transpose; call contiguous() first");
  int64_t out_alignment = alignment_of(g.out.data);
  for (const void* other : {g.bias, static_cast<const void*>(g.aux.data), g.addend})
    if (other) out_alignment = std::min(out_alignment, alignment_of(other));
  return {.device = g.device.index,
          .dtype = static_cast<int64_t>(g.dtype),
          .m = g.m,
          .n = g.n,
          .k = g.k,
          .batch = g.batch,
          .a_operation = a->operation,
          .a_ld = a->ld,
          .a_stride = g.batch == 1 ? 0 : g.b.batch_stride,
          .b_operation = b->operation,
          .b_ld = b->ld,
          .b_stride = g.batch == 1 ? 0 : g.a.batch_stride,
          .out_ld = g.m == 1 ? g.n : g.out.row_stride,
          .out_stride = g.batch == 1 ? 0 : g.out.batch_stride,
          .alignments = alignment_of(g.b.data) | alignment_of(g.a.data) << 8 | out_alignment << 16,
          .epilogue = epilogue_of(g),
          .aux_ld = !g.aux.data ? 0
                    : g.m == 1  ? g.n
                                : g.aux.row_stride,
          .tf32 = g.dtype == DType::kF32 &&
                  kernel_settings().float32_products == Float32Products::kTF32,
          .adds = g.addend != nullptr};
}

Plan::Plan(const Key& key, const Gemm& gemm) {
  const Types types = types_of(static_cast<DType>(key.dtype), key.tf32);
  check(api().desc_create(&desc_, types.compute, types.scale), "cublasLtMatmulDescCreate");
  const auto a_operation = static_cast<int32_t>(key.a_operation),
             b_operation = static_cast<int32_t>(key.b_operation);
  set(kDescTransA, a_operation);
  set(kDescTransB, b_operation);
  if (key.epilogue != kEpilogueDefault) set(kDescEpilogue, static_cast<uint32_t>(key.epilogue));
  if (key.aux_ld) set(kDescAuxLd, key.aux_ld);
  point_to(gemm);  // the choice of algorithm looks at them
  a_ = layout(types.data, key.n, key.k, a_operation, key.a_ld, key.batch, key.a_stride);
  b_ = layout(types.data, key.k, key.m, b_operation, key.b_ld, key.batch, key.b_stride);
  out_ = layout(types.data, key.n, key.m, kNoTranspose, key.out_ld, key.batch, key.out_stride);
}

Plan::~Plan() {
  for (MatrixLayout layout : {a_, b_, out_})
    if (layout) api().layout_destroy(layout);
  if (desc_) api().desc_destroy(desc_);
}

void Plan::point_to(const Gemm& gemm) {
  if (gemm.bias) set(kDescBiasPointer, gemm.bias);
  if (const void* aux = gemm.aux.data) set(kDescAuxPointer, aux);
}

std::vector<Heuristic> Plan::candidates(const Key& key, size_t workspace, int count) const {
  Preference preference = nullptr;
  check(api().preference_create(&preference), "cublasLtMatmulPreferenceCreate");
  auto prefer = [&](PreferenceAttribute attribute, auto value) {
    check(api().preference_set(preference, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  };
  prefer(kPreferMaxWorkspace, uint64_t{workspace});
  prefer(kPreferReductionMask, kReduceInComputeType);
  prefer(kPreferAlignA, static_cast<uint32_t>(key.alignments & 0xff));
  prefer(kPreferAlignB, static_cast<uint32_t>(key.alignments >> 8 & 0xff));
  prefer(kPreferAlignC, static_cast<uint32_t>(key.alignments >> 16 & 0xff));
  prefer(kPreferAlignD, static_cast<uint32_t>(key.alignments >> 16 & 0xff));
  std::vector<Heuristic> found(static_cast<size_t>(count));
  int returned = 0;
  const Status status = api().heuristic(handle_of_device(static_cast<int>(key.device)), desc_, a_,
                                        b_, out_, out_, preference, count, found.data(), &returned);
  api().preference_destroy(preference);
  if (status == kNotSupported) return {};
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  found.resize(static_cast<size_t>(returned));
  std::erase_if(found, [](const Heuristic& each) { return each.state != kSuccess; });
  return found;
}

std::optional<Heuristic> Plan::checked(const Key& key, const Algorithm& algorithm) const {
  Heuristic result{};
  const Status status = api().algorithm_check(handle_of_device(static_cast<int>(key.device)), desc_,
                                              a_, b_, out_, out_, &algorithm, &result);
  if (status != kSuccess || result.state != kSuccess || result.workspace > kMostWorkspaceBytes)
    return std::nullopt;
  result.algorithm = algorithm;
  return result;
}

Status Plan::run(const Gemm& gemm) {
  const int index = gemm.device.index;
  // out = alpha product + beta addend; without an addend, out's old numbers are in its place.
  const double beta_f64 = gemm.addend ? 1 : gemm.beta;
  const void* const addend = gemm.addend ? gemm.addend : gemm.out.data;
  const float alpha_f32 = static_cast<float>(gemm.alpha), beta_f32 = static_cast<float>(beta_f64);
  const bool wide = gemm.dtype == DType::kF64;
  const void* const alpha = wide ? static_cast<const void*>(&gemm.alpha) : &alpha_f32;
  const void* const beta = wide ? static_cast<const void*>(&beta_f64) : &beta_f32;
  const cudaStream_t stream = current_stream(index);
  void* workspace = workspace_in_graph({gemm.device, stream}, heuristic.workspace);
  // A graph may run beside eager work or another graph, so its scratch is in its own memory.
  const bool own = !workspace && (heuristic.workspace > kWorkspaceBytes ||
                                  (heuristic.workspace && active_capture(gemm.device)));
  if (own) workspace = allocate(index, heuristic.workspace);
  else if (!workspace && heuristic.workspace) workspace = workspace_of(index, stream);
  const Status status = api().matmul(handle_of_device(index), desc_, alpha, gemm.b.data, a_,
                                     gemm.a.data, b_, beta, addend, out_, gemm.out.data, out_,
                                     &heuristic.algorithm, workspace, heuristic.workspace, stream);
  if (own) deallocate(index, workspace);
  return status;
}

MatrixLayout Plan::layout(cudaDataType_t type, int64_t rows, int64_t cols, int32_t operation,
                          int64_t ld, int64_t batch, int64_t stride) {
  if (operation == kTranspose) std::swap(rows, cols);
  MatrixLayout result = nullptr;
  check(api().layout_create(&result, type, rows, cols, ld), "cublasLtMatrixLayoutCreate");
  const auto count = static_cast<int32_t>(batch);
  check(api().layout_set(result, kLayoutBatchCount, &count, sizeof count),
        "cublasLtMatrixLayoutSetAttribute");
  check(api().layout_set(result, kLayoutBatchStride, &stride, sizeof stride),
        "cublasLtMatrixLayoutSetAttribute");
  return result;
}

}  // namespace vt::cuda::cublaslt
