// Unified memory: tensors whose pages move between a device and the host, for tables and optimizer
// state that a device does not have to hold all the time. An explicit kind: nothing else of the
// library lives in it, no flags of a protocol and no gradients of a trainer.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace vt::fabric {

// On `device`, whose kernels use it like any other tensor. On a CPU device it is ordinary memory,
// and advice is only remembered. OutOfMemoryError beyond the cap.
Tensor unified_empty(const Dims& sizes, DType dtype, Device device);
bool is_unified(const Tensor& t);

// The cap on what the process holds for a device: a quarter of the device's free memory at the time
// of each allocation, or `bytes` where that is less. Pages of the host are slow to fetch, and a
// device that has to evict some for others crawls: so the cap is far below what would fit.
void set_unified_limit(std::optional<size_t> bytes);
struct UnifiedUse {
  size_t held;  // bytes, of all tensors of the device
  size_t cap;
  size_t free;  // of the device
};
UnifiedUse unified_use(Device device);

enum class Advice : uint8_t {
  kPreferred,     // where pages stay if they can: a device, or the host
  kNotPreferred,  // no such place
  kAccessedBy,    // map the pages for this device, wherever they are
  kNotAccessedBy,
  kReadMostly,  // copy pages to each reader instead of moving them
  kNotReadMostly,
};
// About the pages that the tensor, which may be a view, lies in. `place` as in kPreferred: a CUDA
// device of the machine, or a CPU device for the host.
void advise(const Tensor& t, Advice advice, Device place);

// Moves the pages, in order with the work on the current stream of the tensor's device.
void prefetch(const Tensor& t, Device place);

// What the driver says of all the pages of the tensor; nullopt where they differ, or where nothing
// was asked for. It tells what was advised and prefetched last. Where the pages are at this moment
// it does not tell: a kernel that touches a page on the host, or a host that touches one on a GPU,
// moves it without a trace here.
struct Residency {
  std::optional<Device> preferred, prefetched;
  bool read_mostly = false;
  std::vector<Device> accessed_by;
};
Residency residency(const Tensor& t);

// The memory of one kind of device.
struct UnifiedRange {
  char* data;
  size_t bytes;
};
namespace cuda {  // fabric/cuda, or fabric/no_cuda
void* take_unified(int index, size_t bytes);
// Waits for the device.
void give_back_unified(int index, void* data) noexcept;
void advise(int index, UnifiedRange range, Advice advice, Device place);
void prefetch(int index, UnifiedRange range, Device place);
Residency residency(int index, UnifiedRange range);
}  // namespace cuda

}  // namespace vt::fabric
