// Launching kernels: in turn, before the one before them has ended, or in clusters.
#include "kernels/cuda/launch.h"

#include "base/env.h"
#include "device/cuda/driver.h"
#include "kernels/cuda/graph_start.h"

namespace vt::cuda {
namespace {

// CUresult and cudaError_t have the same numbers.
using DriverLaunch = int(void* function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                         unsigned shared_bytes, cudaStream_t, void** arguments, void** extra);

// What the driver calls a kernel on a device. Each thread remembers its own: asking the runtime the
// first time also makes the device's context the thread's.
struct KnownKernel {
  const void* kernel = nullptr;
  int index = 0;
  cudaFunction_t function = nullptr;
};
constexpr size_t kKnownKernels = 1024;
thread_local KnownKernel known_kernels[kKnownKernels];

}  // namespace

cudaError_t launch_in_turn(int index, const void* kernel, dim3 grid, dim3 block, void** arguments,
                           size_t shared_bytes, cudaStream_t stream) {
  static auto* const launch = driver_function_as<DriverLaunch>("cuLaunchKernel", 12000);
  const auto address = reinterpret_cast<uintptr_t>(kernel);
  KnownKernel& known = known_kernels[(address >> 4 ^ address >> 14) % kKnownKernels];
  if (VT_UNLIKELY(known.kernel != kernel || known.index != index)) {
    // What was compiled at run time has no symbol, and is the runtime's to launch.
    cudaFunction_t function = nullptr;
    if (cudaGetFuncBySymbol(&function, kernel) != cudaSuccess) {
      (void)cudaGetLastError();
      function = nullptr;
    }
    known = {kernel, index, function};
  }
  if (!known.function)
    return cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream);
  if (!stream && start_as_graph(index, known.function, grid, block, arguments, shared_bytes))
    return cudaSuccess;
  return static_cast<cudaError_t>(launch(known.function, grid.x, grid.y, grid.z, block.x, block.y,
                                         block.z, static_cast<unsigned>(shared_bytes), stream,
                                         arguments, nullptr));
}

cudaError_t launch_awaiting(int index, const void* kernel, dim3 grid, dim3 block, void** arguments,
                            size_t shared_bytes, cudaStream_t stream, bool early, int cluster) {
  static const bool wanted = env::early_starts();
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (early && wanted && properties(index).compute_major >= 9) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  }
  if (count == 0)
    return launch_in_turn(index, kernel, grid, block, arguments, shared_bytes, stream);
  cudaLaunchConfig_t how{};
  how.gridDim = grid;
  how.blockDim = block;
  how.dynamicSmemBytes = shared_bytes;
  how.stream = stream;
  how.attrs = attributes;
  how.numAttrs = count;
  return cudaLaunchKernelExC(&how, kernel, arguments);
}

}  // namespace vt::cuda
