// Looking up the driver's entry points.
#include "fabric/cuda/driver.h"

#include <optional>

#include "base/error.h"
#include "device/cuda/driver.h"

namespace vt::fabric::cuda {
namespace {

template <class F>
void find(const char* name, F& function) {
  constexpr unsigned kVersion = 12000;  // the signatures of CUDA 12.0
  function = reinterpret_cast<F>(vt::cuda::driver_function(name, kVersion));
}

std::optional<Driver> look_up() {
  Driver found{};
  try {
    find("cuGetErrorName", found.get_error_name);
    find("cuDeviceGetAttribute", found.device_get_attribute);
    find("cuMemGetAllocationGranularity", found.mem_get_allocation_granularity);
    find("cuMemAddressReserve", found.mem_address_reserve);
    find("cuMemAddressFree", found.mem_address_free);
    find("cuMemCreate", found.mem_create);
    find("cuMemRelease", found.mem_release);
    find("cuMemMap", found.mem_map);
    find("cuMemUnmap", found.mem_unmap);
    find("cuMemSetAccess", found.mem_set_access);
  } catch (const Error&) { return std::nullopt; }
  return found;
}

}  // namespace

const Driver* driver() {
  static const std::optional<Driver> found = look_up();
  return found ? &*found : nullptr;
}

void check_driver(const char* call, CUresult code) {
  if (VT_LIKELY(code == CUDA_SUCCESS)) return;
  const char* text = nullptr;
  (void)driver()->get_error_name(code, &text);
  fail(code == CUDA_ERROR_OUT_OF_MEMORY ? ErrorKind::kOutOfMemory : ErrorKind::kRuntime,
       "fabric: ", call, " failed: ", text ? text : "unknown error");
}

}  // namespace vt::fabric::cuda
