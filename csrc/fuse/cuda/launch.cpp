// Loading generated kernels and launching them.
#include "fuse/launch.h"

#include <map>
#include <mutex>

#include "fuse/compile.h"
#include "kernels/cuda/launch.h"

namespace vt::fuse {
namespace {

// While it lives, calls that a stream capture of this thread would refuse are allowed: loading code
// queues no work.
class RelaxedCapture {
 public:
  RelaxedCapture() { VT_CUDA(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  ~RelaxedCapture() { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// Loaded kernels by architecture and source; never unloaded: graphs may hold them.
struct Cache {
  std::mutex mutex;
  std::map<std::pair<std::string, std::string>, cudaKernel_t> loaded;
};
Cache& cache() {
  static auto* const instance = new Cache;
  return *instance;
}

cudaKernel_t kernel_of(const std::string& source, const std::string& architecture) {
  Cache& all = cache();
  std::lock_guard lock(all.mutex);
  if (auto found = all.loaded.find({architecture, source}); found != all.loaded.end())
    return found->second;
  const std::string code = compile(source, architecture);
  RelaxedCapture relaxed;
  cudaLibrary_t library = nullptr;
  VT_CUDA(cudaLibraryLoadData(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  cudaKernel_t kernel = nullptr;
  VT_CUDA(cudaLibraryGetKernel(&kernel, library, kKernelName));
  all.loaded[{architecture, source}] = kernel;
  return kernel;
}

}  // namespace

void run_on_cuda(const KernelSource& source, Device device) {
  const cuda::Queue queue("fused kernel", device);
  const DeviceProperties& properties = cuda::properties(device.index);
  VT_CHECK(source.blocks <= 0x7fffffff, kRuntime, "fuse: too many elements for one kernel");
  cudaKernel_t kernel =
      kernel_of(source.text, str("sm_", properties.compute_major, properties.compute_minor));
  std::vector<void*> arguments;
  for (const Parameter& parameter : source.parameters)
    arguments.push_back(const_cast<char*>(parameter.bytes));
  queue.launch_erased(reinterpret_cast<const void*>(kernel),
                      dim3(static_cast<unsigned>(source.blocks)),
                      dim3(static_cast<unsigned>(source.threads)), arguments.data());
}

}  // namespace vt::fuse
