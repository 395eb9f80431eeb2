// Finding the CUDA devices of the machine, once.
#include "device/cuda/device.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <mutex>

#include "base/error.h"
#include "device/cuda/check.h"

namespace vt::cuda {
namespace {

struct Probe {
  int count = 0;
  std::string reason;

  Probe() {
    // A kernel that is loaded at its first launch makes the host wait for the device. While a unit
    // of kernels that wait for each other is half enqueued (Note [Launch units]) that wait may have
    // no end, and such a launch takes no lock. So everything is loaded when a context starts,
    // unless the user says otherwise.
    (void)setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaSuccess && count > 0) {
      count = std::min(count, kMaxDevices);
      return;
    }
    (void)cudaGetLastError();
    count = 0;
    int driver = 0, runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    auto version = [](int v) { return str(v / 1000, '.', v % 1000 / 10); };
    if (code == cudaErrorInsufficientDriver && driver == 0)
      reason = "no NVIDIA driver is installed on this machine";
    else if (code == cudaErrorInsufficientDriver)
      reason = str("the NVIDIA driver supports CUDA ", version(driver), ", this build needs ",
                   version(runtime), "; update the driver");
    else if (code == cudaErrorNoDevice || code == cudaSuccess)
      reason =
          "the NVIDIA driver shows no GPU to this process; look at CUDA_VISIBLE_DEVICES and "
          "nvidia-smi";
    else
      reason = str("the NVIDIA driver does not start: ", cudaGetErrorName(code), " (",
                   cudaGetErrorString(code), ")");
  }
};

const Probe& probe() {
  static const Probe instance;
  return instance;
}

struct Known {
  std::once_flag once;
  DeviceProperties properties;
};

DeviceProperties read_properties(int index) {
  cudaDeviceProp found{};
  VT_CUDA(cudaGetDeviceProperties(&found, index));
  DeviceProperties result;
  result.name = found.name;
  result.total_memory = found.totalGlobalMem;
  result.compute_major = found.major;
  result.compute_minor = found.minor;
  result.multiprocessors = found.multiProcessorCount;
  result.pci_domain = found.pciDomainID;
  result.pci_bus = found.pciBusID;
  result.pci_device = found.pciDeviceID;
  return result;
}

}  // namespace

int count() {
  static const int result = probe().count;
  return result;
}

const std::string& unavailable_reason() { return probe().reason; }

void require_device(int index) {
  if (VT_LIKELY(index >= 0 && index < count())) return;
  if (count() == 0)
    fail(ErrorKind::kRuntime, "cuda: cuda:", index, " does not exist: ", unavailable_reason());
  fail(ErrorKind::kRuntime, "cuda: cuda:", index,
       " does not exist, the machine has cuda:0 to cuda:", count() - 1);
}

const DeviceProperties& properties(int index) {
  require_device(index);
  static auto* const known = new std::array<Known, kMaxDevices>;
  Known& entry = (*known)[index];
  std::call_once(entry.once, [&] { entry.properties = read_properties(index); });
  return entry.properties;
}

int multiprocessors(int index) { return properties(index).multiprocessors; }

void DeviceGuard::enter(int index) {
  require_device(index);
  int now = -1;
  VT_CUDA(cudaGetDevice(&now));
  if (now == index) return;
  VT_CUDA(cudaSetDevice(index));
  previous_ = now;
}

}  // namespace vt::cuda
