// Symmetric GPU memory: one range of addresses with an equal slot a rank, each slot's pages on its
// rank's device and mapped for all devices of the mesh. Ordinary tensors stay out of it: mapping
// everything into every peer would make each allocation wait for all devices. Where that cannot be
// had, cudaMalloc with peer access, or memory of the host. All calls are made under the lock of
// Note [Launch units].
#include "fabric/symmetric.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "device/capture.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/mapping.h"
#include "device/cuda/unit_lock.h"
#include "fabric/access.h"
#include "fabric/peer.h"

namespace vt::fabric::cuda {
namespace {

using vt::cuda::DeviceGuard;
using vt::cuda::mapping_calls;
using vt::cuda::mapping_error;

void check(const char* call, CUresult code) {
  if (VT_LIKELY(code == CUDA_SUCCESS)) return;
  fail(code == CUDA_ERROR_OUT_OF_MEMORY ? ErrorKind::kOutOfMemory : ErrorKind::kRuntime,
       "fabric: ", call, " failed: ", mapping_error(code));
}

// A peer's kernel may still be at work on memory that is about to go.
void finish_all(const Mesh& mesh) {
  for (Device device : mesh.devices()) {
    DeviceGuard guard(device.index);
    (void)cudaDeviceSynchronize();
  }
}

void zero(const Mesh& mesh, const std::vector<void*>& slots, size_t bytes) {
  for (int r = 0; r < mesh.size(); ++r) {
    DeviceGuard guard(mesh.device(r).index);
    VT_CUDA(cudaMemset(slots[r], 0, bytes));
    VT_CUDA(cudaStreamSynchronize(nullptr));
  }
}

CUmemAllocationProp on_device(int index) {
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, index};
  return prop;
}

bool has_mapped_memory(const Mesh& mesh) {
  if (!mapping_calls()) return false;
  return std::all_of(mesh.devices().begin(), mesh.devices().end(), [](Device device) {
    int supported = 0;
    const auto code = mapping_calls()->device_get_attribute(
        &supported, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, device.index);
    return code == CUDA_SUCCESS && supported;
  });
}

class MappedSlots final : public SymmetricSlots {
 public:
  MappedSlots(const Mesh& mesh, size_t bytes) : mesh_(mesh) {
    size_t unit = 1;
    for (Device device : mesh.devices()) {
      DeviceGuard guard(device.index);
      VT_CUDA(cudaFree(nullptr));  // starts the device's context
      const CUmemAllocationProp prop = on_device(device.index);
      size_t own = 0;
      check("cuMemGetAllocationGranularity", mapping_calls()->mem_get_allocation_granularity(
                                                 &own, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
      unit = std::max(unit, own);
    }
    slot_ = (bytes + unit - 1) / unit * unit;
    check("cuMemAddressReserve",
          mapping_calls()->mem_address_reserve(&base_, slot_ * mesh.size(), unit, 0, 0));
    try {
      for (int r = 0; r < mesh.size(); ++r) map(r);
      zero(mesh, slots, bytes);
    } catch (...) {
      release();
      throw;
    }
  }
  ~MappedSlots() override {
    std::lock_guard lock(vt::cuda::launch_unit_mutex());
    release();
  }
  const char* kind() const override { return "mapped"; }

 private:
  void map(int rank) {
    const CUdeviceptr at = base_ + slot_ * rank;
    const CUmemAllocationProp prop = on_device(mesh_.device(rank).index);
    CUmemGenericAllocationHandle handle = 0;
    check("cuMemCreate", mapping_calls()->mem_create(&handle, slot_, &prop, 0));
    const CUresult mapped = mapping_calls()->mem_map(at, slot_, 0, handle, 0);
    (void)mapping_calls()->mem_release(handle);  // the mapping keeps the pages
    check("cuMemMap", mapped);
    slots.push_back(reinterpret_cast<void*>(at));
    std::vector<CUmemAccessDesc> access;
    for (Device device : mesh_.devices())
      access.push_back(
          {{CU_MEM_LOCATION_TYPE_DEVICE, device.index}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE});
    check("cuMemSetAccess",
          mapping_calls()->mem_set_access(at, slot_, access.data(), access.size()));
  }

  void release() {
    finish_all(mesh_);
    for (void* slot : slots)
      (void)mapping_calls()->mem_unmap(reinterpret_cast<CUdeviceptr>(slot), slot_);
    (void)mapping_calls()->mem_address_free(base_, slot_ * mesh_.size());
  }

  Mesh mesh_;
  CUdeviceptr base_ = 0;
  size_t slot_ = 0;
};

// For drivers without mapped memory.
class PeerSlots final : public SymmetricSlots {
 public:
  PeerSlots(const Mesh& mesh, size_t bytes) : mesh_(mesh) {
    try {
      for (Device from : mesh.devices())
        for (Device to : mesh.devices())
          if (from != to) {
            acquire_access(from.index, to.index);
            acquired_.emplace_back(from.index, to.index);
          }
      std::lock_guard lock(vt::cuda::launch_unit_mutex());
      for (Device device : mesh.ranks()) {
        DeviceGuard guard(device.index);
        void* slot = nullptr;
        VT_CUDA(cudaMalloc(&slot, bytes));
        slots.push_back(slot);
      }
      zero(mesh, slots, bytes);
    } catch (...) {
      release();
      throw;
    }
  }
  ~PeerSlots() override { release(); }
  const char* kind() const override { return "peer"; }

 private:
  void release() {
    {
      std::lock_guard lock(vt::cuda::launch_unit_mutex());
      finish_all(mesh_);
      for (size_t r = 0; r < slots.size(); ++r) {
        DeviceGuard guard(mesh_.device(static_cast<int>(r)).index);
        (void)cudaFree(slots[r]);
      }
    }
    for (const auto& [from, to] : acquired_) release_access(from, to);
  }

  Mesh mesh_;
  std::vector<std::pair<int, int>> acquired_;
};

// For devices that do not reach each other: every slot lies in the host's memory, which all do.
class HostSlots final : public SymmetricSlots {
 public:
  HostSlots(const Mesh& mesh, size_t bytes) : mesh_(mesh) {
    std::lock_guard lock(vt::cuda::launch_unit_mutex());
    try {
      for (Device device : mesh.ranks()) {
        DeviceGuard guard(device.index);
        void* slot = nullptr;
        VT_CUDA(cudaHostAlloc(&slot, bytes, cudaHostAllocPortable | cudaHostAllocMapped));
        slots.push_back(slot);
        std::memset(slot, 0, bytes);
      }
    } catch (...) {
      release();
      throw;
    }
  }
  ~HostSlots() override {
    std::lock_guard lock(vt::cuda::launch_unit_mutex());
    release();
  }
  const char* kind() const override { return "host"; }

 private:
  void release() {
    finish_all(mesh_);
    for (void* slot : slots) (void)cudaFreeHost(slot);
  }

  Mesh mesh_;
};

// Let go of while a graph was being captured: devices cannot be waited for then, and a peer's
// kernel may still be at work on the memory.
struct Dropped {
  std::mutex mutex;
  std::vector<std::unique_ptr<SymmetricSlots>> slots;
};

Dropped& dropped() {
  static auto* const instance = new Dropped;
  return *instance;
}

void release_dropped() {
  std::vector<std::unique_ptr<SymmetricSlots>> gone;  // goes after the lock
  std::lock_guard lock(dropped().mutex);
  gone.swap(dropped().slots);
}

// Releases the real slots when it goes or, during a capture, with the next that are made or go.
class LastingSlots final : public SymmetricSlots {
 public:
  explicit LastingSlots(std::unique_ptr<SymmetricSlots> real) : real_(std::move(real)) {
    slots = real_->slots;
  }
  ~LastingSlots() override {
    if (!any_capture()) {
      release_dropped();
      return;
    }
    std::lock_guard lock(dropped().mutex);
    dropped().slots.push_back(std::move(real_));
  }
  const char* kind() const override { return real_->kind(); }

 private:
  std::unique_ptr<SymmetricSlots> real_;
};

bool all_reach_each_other(const Mesh& mesh) {
  for (Device from : mesh.devices())
    for (Device to : mesh.devices())
      if (!peer_state(from, to).usable) return false;
  return true;
}

std::unique_ptr<SymmetricSlots> make_slots(const Mesh& mesh, size_t bytes, Backing backing) {
  if (backing == Backing::kAuto && mode() == Mode::kBestEffort && !all_reach_each_other(mesh))
    backing = Backing::kHost;
  if (backing == Backing::kAuto || backing == Backing::kDirect)
    backing = has_mapped_memory(mesh) ? Backing::kMapped : Backing::kPeer;
  if (backing == Backing::kHost) return std::make_unique<HostSlots>(mesh, bytes);
  if (backing == Backing::kPeer) return std::make_unique<PeerSlots>(mesh, bytes);
  VT_CHECK(has_mapped_memory(mesh), kFabric, "symmetric memory: the driver of ", mesh,
           " has no mapped memory; use the backing 'peer'");
  std::lock_guard lock(vt::cuda::launch_unit_mutex());
  return std::make_unique<MappedSlots>(mesh, bytes);
}

}  // namespace

std::unique_ptr<SymmetricSlots> make_symmetric_slots(const Mesh& mesh, size_t bytes,
                                                     Backing backing) {
  if (!any_capture()) release_dropped();
  return std::make_unique<LastingSlots>(make_slots(mesh, bytes, backing));
}

}  // namespace vt::fabric::cuda
