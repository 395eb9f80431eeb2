// The driver calls for mapped memory, opened at run time: the library must load where there is no
// driver.
#pragma once
#include <cuda.h>

namespace vt::cuda {

struct MappingCalls {
  decltype(&cuDeviceGetAttribute) device_get_attribute;
  decltype(&cuMemGetAllocationGranularity) mem_get_allocation_granularity;
  decltype(&cuMemAddressReserve) mem_address_reserve;
  decltype(&cuMemAddressFree) mem_address_free;
  decltype(&cuMemCreate) mem_create;
  decltype(&cuMemRelease) mem_release;
  decltype(&cuMemMap) mem_map;
  decltype(&cuMemUnmap) mem_unmap;
  decltype(&cuMemSetAccess) mem_set_access;
  decltype(&cuGetErrorName) get_error_name;
};

// Null if this driver lacks one of the calls.
const MappingCalls* mapping_calls();

// The name of a code that one of them returned.
const char* mapping_error(CUresult code);

}  // namespace vt::cuda
