// Starting a kernel as a graph of one node.
#include "kernels/cuda/graph_start.h"

#include <cuda.h>
#include <unistd.h>

#include "base/device.h"
#include "base/env.h"
#include "device/cuda/driver.h"

namespace vt::cuda {
namespace {

struct Driver {
  decltype(&cuGraphCreate) create;
  decltype(&cuGraphAddKernelNode) add_kernel;
  decltype(&cuGraphInstantiateWithFlags) instantiate;
  decltype(&cuGraphExecKernelNodeSetParams) set;
  decltype(&cuGraphLaunch) launch;
  decltype(&cuGraphExecDestroy) destroy_executable;
  decltype(&cuGraphDestroy) destroy;
};

template <class F>
void find(F& function, const char* name) {
  function = reinterpret_cast<F>(driver_function(name, 12000));
}
const Driver& driver() {
  static const Driver instance = [] {
    Driver d{};
    find(d.create, "cuGraphCreate");
    find(d.add_kernel, "cuGraphAddKernelNode");
    find(d.instantiate, "cuGraphInstantiateWithFlags");
    find(d.set, "cuGraphExecKernelNodeSetParams");
    find(d.launch, "cuGraphLaunch");
    find(d.destroy_executable, "cuGraphExecDestroy");
    find(d.destroy, "cuGraphDestroy");
    return d;
  }();
  return instance;
}

// One graph, of whatever kernel was launched last.
class KernelGraph {
 public:
  KernelGraph() = default;
  ~KernelGraph() { release(); }
  KernelGraph(const KernelGraph&) = delete;
  KernelGraph& operator=(const KernelGraph&) = delete;

  bool launch(const CUDA_KERNEL_NODE_PARAMS& kernel) {
    const bool ready = executable_ && driver().set(executable_, node_, &kernel) == CUDA_SUCCESS;
    return (ready || make(kernel)) && driver().launch(executable_, nullptr) == CUDA_SUCCESS;
  }

 private:
  bool make(const CUDA_KERNEL_NODE_PARAMS& kernel) {
    release();
    owner_ = getpid();
    if (driver().create(&graph_, 0) == CUDA_SUCCESS &&
        driver().add_kernel(&node_, graph_, nullptr, 0, &kernel) == CUDA_SUCCESS &&
        driver().instantiate(&executable_, graph_, 0) == CUDA_SUCCESS)
      return true;
    release();
    return false;
  }
  void release() {
    if (owner_ != getpid()) return;  // a forked process has no use of the driver
    if (executable_) (void)driver().destroy_executable(executable_);
    if (graph_) (void)driver().destroy(graph_);
    executable_ = nullptr;
    graph_ = nullptr;
  }

  CUgraph graph_ = nullptr;
  CUgraphNode node_ = nullptr;
  CUgraphExec executable_ = nullptr;
  pid_t owner_ = 0;
};

// Graphs of a thread and device, each some 120 KiB of the device's memory. Other arguments are set
// quickly, another function or grid is as slow as a launch: those that come again have a graph
// each.
constexpr size_t kGraphs = 64;
thread_local KernelGraph graphs[kMaxDevices][kGraphs];

size_t place_of(cudaFunction_t function, dim3 grid, dim3 block) {
  uint64_t key = reinterpret_cast<uintptr_t>(function) >> 4;
  for (const unsigned part : {grid.x, grid.y, grid.z, block.x})
    key = (key ^ part) * 0x9e3779b97f4a7c15ull;
  return key >> 58;
}
static_assert(kGraphs == 64);

}  // namespace

bool start_as_graph(int index, cudaFunction_t function, dim3 grid, dim3 block, void** arguments,
                    size_t shared_bytes) {
  static const bool wanted = env::graph_starts();
  if (!wanted) return false;
  CUDA_KERNEL_NODE_PARAMS kernel{};
  kernel.func = reinterpret_cast<CUfunction>(function);
  kernel.gridDimX = grid.x;
  kernel.gridDimY = grid.y;
  kernel.gridDimZ = grid.z;
  kernel.blockDimX = block.x;
  kernel.blockDimY = block.y;
  kernel.blockDimZ = block.z;
  kernel.sharedMemBytes = static_cast<unsigned>(shared_bytes);
  kernel.kernelParams = arguments;
  return graphs[index][place_of(function, grid, block)].launch(kernel);
}

}  // namespace vt::cuda
