// The driver calls around reserved addresses.
#include "device/cuda/pages.h"

#include <cuda.h>

#include <vector>

#include "base/error.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/mapping.h"

namespace vt::cuda {
namespace {

constexpr size_t kPage = size_t{20} << 20;

void check(const char* call, CUresult code) {
  if (VT_LIKELY(code == CUDA_SUCCESS)) return;
  fail(ErrorKind::kRuntime, "cuda: ", call, " failed: ", mapping_error(code));
}

CUmemAllocationProp pages_of(int index) {
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, index};
  return prop;
}

// The device and those that can reach its memory.
std::vector<CUmemAccessDesc> users_of(int index) {
  std::vector<CUmemAccessDesc> result;
  for (int other = 0; other < count(); ++other) {
    int reaches = other == index;
    if (!reaches) VT_CUDA(cudaDeviceCanAccessPeer(&reaches, other, index));
    if (reaches)
      result.push_back({{CU_MEM_LOCATION_TYPE_DEVICE, other}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE});
  }
  return result;
}

CUdeviceptr at(void* data, size_t offset) { return reinterpret_cast<CUdeviceptr>(data) + offset; }

}  // namespace

size_t page_bytes(int index) {
  if (!mapping_calls()) return 0;
  const CUmemAllocationProp prop = pages_of(index);
  size_t least = 0;
  if (mapping_calls()->mem_get_allocation_granularity(
          &least, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS ||
      least == 0 || kPage % least != 0)
    return 0;
  return kPage;
}

void* reserve_addresses(size_t bytes) {
  CUdeviceptr result = 0;
  check("cuMemAddressReserve", mapping_calls()->mem_address_reserve(&result, bytes, 0, 0, 0));
  return reinterpret_cast<void*>(result);
}

void free_addresses(void* data, size_t bytes) noexcept {
  (void)mapping_calls()->mem_address_free(at(data, 0), bytes);
}

bool map_pages(int index, void* data, size_t bytes) {
  const CUmemAllocationProp prop = pages_of(index);
  size_t done = 0;
  try {
    for (; done < bytes; done += kPage) {
      CUmemGenericAllocationHandle handle = 0;
      const CUresult code = mapping_calls()->mem_create(&handle, kPage, &prop, 0);
      if (code == CUDA_ERROR_OUT_OF_MEMORY) {
        unmap_pages(index, data, done);
        return false;
      }
      check("cuMemCreate", code);
      const CUresult mapped = mapping_calls()->mem_map(at(data, done), kPage, 0, handle, 0);
      (void)mapping_calls()->mem_release(handle);  // the mapping keeps the memory
      check("cuMemMap", mapped);
    }
    const std::vector<CUmemAccessDesc> users = users_of(index);
    check("cuMemSetAccess",
          mapping_calls()->mem_set_access(at(data, 0), bytes, users.data(), users.size()));
  } catch (...) {
    unmap_pages(index, data, done);
    throw;
  }
  return true;
}

void unmap_pages(int, void* data, size_t bytes) noexcept {
  for (size_t done = 0; done < bytes; done += kPage)
    (void)mapping_calls()->mem_unmap(at(data, done), kPage);
}

}  // namespace vt::cuda
