// Asking NVML, opened at run time.
#include "device/cuda/gpu_users.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/error.h"
#include "device/caching_allocator.h"
#include "device/cuda/device.h"
#include "device/vendor_library.h"

namespace vt::cuda {
namespace {

// Of nvml.h: the little that is used.
struct NvmlProcess {
  unsigned pid;
  unsigned long long used_bytes;  // all ones where the driver does not tell
  unsigned gpu_instance, compute_instance;
};
using NvmlDevice = void*;
constexpr int kNvmlSuccess = 0;
constexpr size_t kMostNamed = 4;

class Nvml {
 public:
  Nvml() : library_(kNvml) {
    initialise_ = library_.function<int()>("nvmlInit_v2");
    device_at_ =
        library_.function<int(const char*, NvmlDevice*)>("nvmlDeviceGetHandleByPciBusId_v2");
    processes_ = library_.function<int(NvmlDevice, unsigned*, NvmlProcess*)>(
        "nvmlDeviceGetComputeRunningProcesses_v3");
    VT_CHECK(initialise_() == kNvmlSuccess, kRuntime, "NVML does not start");
  }

  std::vector<NvmlProcess> processes(const DeviceProperties& gpu) const {
    char bus[32];
    std::snprintf(bus, sizeof bus, "%08x:%02x:%02x.0", gpu.pci_domain, gpu.pci_bus, gpu.pci_device);
    NvmlDevice device = nullptr;
    std::vector<NvmlProcess> found(256);
    auto number = static_cast<unsigned>(found.size());
    if (device_at_(bus, &device) != kNvmlSuccess ||
        processes_(device, &number, found.data()) != kNvmlSuccess)
      return {};
    found.resize(number);
    return found;
  }

 private:
  VendorLibrary library_;
  int (*initialise_)();
  int (*device_at_)(const char*, NvmlDevice*);
  int (*processes_)(NvmlDevice, unsigned*, NvmlProcess*);
};

}  // namespace

std::string other_users(int index) noexcept {
  try {
    static const Nvml nvml;
    std::vector<NvmlProcess> others = nvml.processes(properties(index));
    std::erase_if(others, [](auto& each) { return each.pid == static_cast<unsigned>(getpid()); });
    // Those that hold the most; all ones, where the driver does not tell, come first.
    std::stable_sort(others.begin(), others.end(),
                     [](auto& a, auto& b) { return a.used_bytes > b.used_bytes; });
    std::string result;
    for (size_t i = 0; i < others.size() && i < kMostNamed; ++i) {
      if (i > 0) result += ", ";
      result += str("process ", others[i].pid);
      if (others[i].used_bytes != ~0ULL)
        result += str(" (", readable_bytes(others[i].used_bytes), ")");
    }
    if (others.size() > kMostNamed) result += str(" and ", others.size() - kMostNamed, " more");
    return result;
  } catch (const std::exception&) {  // an error report must not fail for want of a detail
    return "";
  }
}

}  // namespace vt::cuda
