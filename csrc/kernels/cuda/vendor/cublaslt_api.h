// The functions of cuBLASLt, and a handle of each device.
#pragma once
#include <string>

#include "device/vendor_library.h"
#include "kernels/cuda/vendor/cublaslt_abi.h"

namespace vt::cuda::cublaslt {

struct Api {
  VendorLibrary library{kCublasLt};
  CreateFn* create = library.function<CreateFn>("cublasLtCreate");
  MatmulDescCreateFn* desc_create =
      library.function<MatmulDescCreateFn>("cublasLtMatmulDescCreate");
  MatmulDescDestroyFn* desc_destroy =
      library.function<MatmulDescDestroyFn>("cublasLtMatmulDescDestroy");
  MatmulDescSetFn* desc_set = library.function<MatmulDescSetFn>("cublasLtMatmulDescSetAttribute");
  LayoutCreateFn* layout_create = library.function<LayoutCreateFn>("cublasLtMatrixLayoutCreate");
  LayoutDestroyFn* layout_destroy =
      library.function<LayoutDestroyFn>("cublasLtMatrixLayoutDestroy");
  LayoutSetFn* layout_set = library.function<LayoutSetFn>("cublasLtMatrixLayoutSetAttribute");
  PreferenceCreateFn* preference_create =
      library.function<PreferenceCreateFn>("cublasLtMatmulPreferenceCreate");
  PreferenceDestroyFn* preference_destroy =
      library.function<PreferenceDestroyFn>("cublasLtMatmulPreferenceDestroy");
  PreferenceSetFn* preference_set =
      library.function<PreferenceSetFn>("cublasLtMatmulPreferenceSetAttribute");
  HeuristicFn* heuristic = library.function<HeuristicFn>("cublasLtMatmulAlgoGetHeuristic");
  AlgorithmCheckFn* algorithm_check = library.function<AlgorithmCheckFn>("cublasLtMatmulAlgoCheck");
  AlgorithmGetFn* algorithm_get =
      library.function<AlgorithmGetFn>("cublasLtMatmulAlgoConfigGetAttribute");
  AlgorithmSetFn* algorithm_set =
      library.function<AlgorithmSetFn>("cublasLtMatmulAlgoConfigSetAttribute");
  VersionFn* version = library.function<VersionFn>("cublasLtGetVersion");
  MatmulFn* matmul = library.function<MatmulFn>("cublasLtMatmul");
};

const Api& api();  // opens the library at the first call
void check(Status status, const char* call);
// "13 (execution failed)".
std::string status_text(Status status);
Handle handle_of_device(int index);

}  // namespace vt::cuda::cublaslt
