// The part of cuBLASLt's C interface that is used here, declared anew: handles are opaque, numbers
// are those that the library's documentation gives. They hold for CUDA 12 and 13.
#pragma once
#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstddef>
#include <cstdint>

namespace vt::cuda::cublaslt {

using Status = int;
inline constexpr Status kSuccess = 0;
inline constexpr Status kNotSupported = 15;

struct HandleTag;
struct MatmulDescTag;
struct MatrixLayoutTag;
struct PreferenceTag;
using Handle = HandleTag*;
using MatmulDesc = MatmulDescTag*;
using MatrixLayout = MatrixLayoutTag*;
using Preference = PreferenceTag*;

enum ComputeType : int32_t { kCompute32F = 68, kCompute64F = 70, kCompute32FFastTF32 = 77 };
enum Operation : int32_t { kNoTranspose = 0, kTranspose = 1 };
// Flags, but for the first.
enum Epilogue : uint32_t {
  kEpilogueDefault = 1,
  kEpilogueBias = 4,
  kEpilogueGelu = 32,
  kEpilogueGeluAux = 32 | 128,
  kEpilogueGeluBackward = 64 | 128
};
enum DescAttribute : int {
  kDescTransA = 3,
  kDescTransB = 4,
  kDescEpilogue = 7,
  kDescBiasPointer = 8,
  kDescAuxPointer = 11,
  kDescAuxLd = 12
};
enum LayoutAttribute : int { kLayoutBatchCount = 5, kLayoutBatchStride = 6 };
enum PreferenceAttribute : int {
  kPreferMaxWorkspace = 1,
  kPreferReductionMask = 3,
  kPreferAlignA = 5,
  kPreferAlignB = 6,
  kPreferAlignC = 7,
  kPreferAlignD = 8,
};
enum AlgorithmAttribute : int {
  kAlgorithmId = 0,
  kAlgorithmTile = 1,
  kAlgorithmSplits = 2,
  kAlgorithmReduction = 3
};
inline constexpr uint32_t kNoReduction = 0;
// Sums of a split product in the compute type, by a second kernel in fixed order.
inline constexpr uint32_t kReduceInComputeType = 2;

struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace;
  Status state;
  float waves;
  int reserved[4];
};

using CreateFn = Status(Handle*);
using MatmulDescCreateFn = Status(MatmulDesc*, int32_t compute, cudaDataType_t scale);
using MatmulDescDestroyFn = Status(MatmulDesc);
using MatmulDescSetFn = Status(MatmulDesc, int attribute, const void* value, size_t bytes);
using LayoutCreateFn = Status(MatrixLayout*, cudaDataType_t, uint64_t rows, uint64_t cols,
                              int64_t ld);
using LayoutDestroyFn = Status(MatrixLayout);
using LayoutSetFn = Status(MatrixLayout, int attribute, const void* value, size_t bytes);
using PreferenceCreateFn = Status(Preference*);
using PreferenceDestroyFn = Status(Preference);
using PreferenceSetFn = Status(Preference, int attribute, const void* value, size_t bytes);
using HeuristicFn = Status(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c,
                           MatrixLayout d, Preference, int requested, Heuristic* results,
                           int* returned);
using AlgorithmCheckFn = Status(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c,
                                MatrixLayout d, const Algorithm*, Heuristic* result);
using AlgorithmGetFn = Status(const Algorithm*, int attribute, void* value, size_t bytes,
                              size_t* written);
using AlgorithmSetFn = Status(Algorithm*, int attribute, const void* value, size_t bytes);
using VersionFn = size_t();
using MatmulFn = Status(Handle, MatmulDesc, const void* alpha, const void* a, MatrixLayout,
                        const void* b, MatrixLayout, const void* beta, const void* c, MatrixLayout,
                        void* d, MatrixLayout, const Algorithm*, void* workspace,
                        size_t workspace_bytes, cudaStream_t);

}  // namespace vt::cuda::cublaslt
