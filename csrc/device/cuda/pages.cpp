// The driver calls around reserved addresses.
#include "device/cuda/pages.h"

#include <cuda.h>

#include <optional>
#include <vector>

#include "base/error.h"
#include "device/cuda/device.h"
#include "device/cuda/driver.h"

namespace vt::cuda {
namespace {

constexpr size_t kPage = size_t{20} << 20;
constexpr unsigned kVersion = 12000;  // the signatures of CUDA 12.0

struct Driver {
  decltype(&cuGetErrorName) get_error_name;
  decltype(&cuMemAddressReserve) address_reserve;
  decltype(&cuMemAddressFree) address_free;
  decltype(&cuMemCreate) create;
  decltype(&cuMemRelease) release;
  decltype(&cuMemMap) map;
  decltype(&cuMemUnmap) unmap;
  decltype(&cuMemSetAccess) set_access;
  decltype(&cuMemGetAllocationGranularity) granularity;
};

template <class F>
void find(const char* name, F& function) {
  function = reinterpret_cast<F>(driver_function(name, kVersion));
}

const Driver* driver() {
  static const std::optional<Driver> found = []() -> std::optional<Driver> {
    Driver d{};
    try {
      find("cuGetErrorName", d.get_error_name);
      find("cuMemAddressReserve", d.address_reserve);
      find("cuMemAddressFree", d.address_free);
      find("cuMemCreate", d.create);
      find("cuMemRelease", d.release);
      find("cuMemMap", d.map);
      find("cuMemUnmap", d.unmap);
      find("cuMemSetAccess", d.set_access);
      find("cuMemGetAllocationGranularity", d.granularity);
    } catch (const Error&) { return std::nullopt; }
    return d;
  }();
  return found ? &*found : nullptr;
}

void check(const char* call, CUresult code) {
  if (VT_LIKELY(code == CUDA_SUCCESS)) return;
  const char* text = nullptr;
  (void)driver()->get_error_name(code, &text);
  fail(ErrorKind::kRuntime, "cuda: ", call, " failed: ", text ? text : "unknown error");
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
  if (!driver()) return 0;
  const CUmemAllocationProp prop = pages_of(index);
  size_t least = 0;
  if (driver()->granularity(&least, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS ||
      least == 0 || kPage % least != 0)
    return 0;
  return kPage;
}

void* reserve_addresses(size_t bytes) {
  CUdeviceptr result = 0;
  check("cuMemAddressReserve", driver()->address_reserve(&result, bytes, 0, 0, 0));
  return reinterpret_cast<void*>(result);
}

void free_addresses(void* data, size_t bytes) noexcept {
  (void)driver()->address_free(at(data, 0), bytes);
}

bool map_pages(int index, void* data, size_t bytes) {
  const CUmemAllocationProp prop = pages_of(index);
  size_t done = 0;
  try {
    for (; done < bytes; done += kPage) {
      CUmemGenericAllocationHandle handle = 0;
      const CUresult code = driver()->create(&handle, kPage, &prop, 0);
      if (code == CUDA_ERROR_OUT_OF_MEMORY) {
        unmap_pages(index, data, done);
        return false;
      }
      check("cuMemCreate", code);
      const CUresult mapped = driver()->map(at(data, done), kPage, 0, handle, 0);
      (void)driver()->release(handle);  // the mapping keeps the memory
      check("cuMemMap", mapped);
    }
    const std::vector<CUmemAccessDesc> users = users_of(index);
    check("cuMemSetAccess", driver()->set_access(at(data, 0), bytes, users.data(), users.size()));
  } catch (...) {
    unmap_pages(index, data, done);
    throw;
  }
  return true;
}

void unmap_pages(int, void* data, size_t bytes) noexcept {
  for (size_t done = 0; done < bytes; done += kPage) (void)driver()->unmap(at(data, done), kPage);
}

}  // namespace vt::cuda
