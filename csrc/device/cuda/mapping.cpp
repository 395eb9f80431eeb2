// Finds the driver calls for mapped memory, once.
#include "device/cuda/mapping.h"

#include <optional>

#include "base/error.h"
#include "device/cuda/driver.h"

namespace vt::cuda {
namespace {

template <class F>
void find(const char* name, F& function) {
  constexpr unsigned kVersion = 12000;  // the signatures of CUDA 12.0
  function = reinterpret_cast<F>(driver_function(name, kVersion));
}

std::optional<MappingCalls> look_up() {
  MappingCalls found{};
  try {
    find("cuDeviceGetAttribute", found.device_get_attribute);
    find("cuMemGetAllocationGranularity", found.mem_get_allocation_granularity);
    find("cuMemAddressReserve", found.mem_address_reserve);
    find("cuMemAddressFree", found.mem_address_free);
    find("cuMemCreate", found.mem_create);
    find("cuMemRelease", found.mem_release);
    find("cuMemMap", found.mem_map);
    find("cuMemUnmap", found.mem_unmap);
    find("cuMemSetAccess", found.mem_set_access);
    find("cuGetErrorName", found.get_error_name);
  } catch (const Error&) { return std::nullopt; }
  return found;
}

}  // namespace

const MappingCalls* mapping_calls() {
  static const std::optional<MappingCalls> found = look_up();
  return found ? &*found : nullptr;
}

const char* mapping_error(CUresult code) {
  const char* text = nullptr;
  (void)mapping_calls()->get_error_name(code, &text);
  return text ? text : "unknown error";
}

}  // namespace vt::cuda
