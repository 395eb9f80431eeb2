// The register of unified memory, its cap, and the CPU's version of it.
#include "fabric/unified.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>

#include "base/error.h"
#include "fabric/events.h"

namespace vt::fabric {
namespace {

constexpr size_t kPart = 4;  // the cap is the free memory divided by this

// On a CPU device: what was asked for last, of the whole allocation.
struct Allocation {
  size_t bytes;
  Residency asked;
};

struct Register {
  std::mutex mutex;
  std::map<const char*, Allocation> allocations;
  std::array<std::array<size_t, kMaxDevices>, kDeviceTypeCount> held{};
  size_t limit = ~size_t{0};
};

Register& known() {
  static auto* const instance = new Register;  // tensors may outlive static destruction
  return *instance;
}

size_t& held_on(Device device) { return known().held[static_cast<int>(device.type)][device.index]; }

// Under the lock.
UnifiedUse use_of(Device device) {
  const size_t free = backend(device).free_memory(device.index).free;
  return {held_on(device), std::min(known().limit, free / kPart), free};
}

void reserve(Device device, size_t bytes) {
  std::lock_guard lock(known().mutex);
  const UnifiedUse use = use_of(device);
  VT_CHECK(bytes <= use.cap && use.held <= use.cap - bytes, kOutOfMemory, "unified memory of ",
           device, ": asked for ", bytes, " bytes, held are ", use.held, ", the cap is ", use.cap,
           " (a quarter of the free memory, or what fabric.unified_limit set), free are ", use.free,
           "; use ordinary tensors for what does not have to spill to the host");
  held_on(device) += bytes;
}

void unreserve(Device device, size_t bytes) {
  std::lock_guard lock(known().mutex);
  held_on(device) -= bytes;
}

Allocation* find(const void* data) {
  auto found = known().allocations.upper_bound(static_cast<const char*>(data));
  if (found == known().allocations.begin()) return nullptr;
  --found;
  return static_cast<const char*>(data) < found->first + found->second.bytes ? &found->second
                                                                             : nullptr;
}

void forget(Device device, void* data, size_t bytes) {
  {
    std::lock_guard lock(known().mutex);
    known().allocations.erase(static_cast<char*>(data));
  }
  if (device.is_cpu()) backend(device).deallocate(device.index, data, bytes);
  else cuda::give_back_unified(device.index, data);
  unreserve(device, bytes);
  note(EventKind::kManaged, "give_back", device, bytes);
}

void check_unified(const char* op, const Tensor& t) {
  VT_CHECK(is_unified(t), kValue, op, ": ", t,
           " is no unified memory; make it with fabric.unified_empty or fabric.unified_zeros");
}

// From the first to the last byte of the tensor, gaps included.
UnifiedRange range_of(const Tensor& t) {
  int64_t last = 0;
  for (int d = 0; d < t.dim(); ++d) last += (t.sizes()[d] - 1) * t.strides()[d];
  return {t.data<char>(), static_cast<size_t>(last + 1) * t.item_size()};
}

void remember(Residency& asked, Advice advice, Device place) {
  switch (advice) {
    case Advice::kPreferred: asked.preferred = place; break;
    case Advice::kNotPreferred: asked.preferred.reset(); break;
    case Advice::kReadMostly: asked.read_mostly = true; break;
    case Advice::kNotReadMostly: asked.read_mostly = false; break;
    case Advice::kAccessedBy:
    case Advice::kNotAccessedBy:
      std::erase(asked.accessed_by, place);
      if (advice == Advice::kAccessedBy) asked.accessed_by.push_back(place);
      break;
  }
}

const char* name(Advice advice) {
  constexpr const char* kNames[] = {"advise_preferred",   "advise_not_preferred",
                                    "advise_accessed_by", "advise_not_accessed_by",
                                    "advise_read_mostly", "advise_not_read_mostly"};
  return kNames[static_cast<int>(advice)];
}

}  // namespace

Tensor unified_empty(const Dims& sizes, DType dtype, Device device) {
  check_device(device);
  const size_t bytes = std::max<size_t>(bytes_of("unified_empty", sizes, dtype), 1);
  reserve(device, bytes);
  void* data = nullptr;
  try {
    data = device.is_cpu() ? backend(device).allocate(device.index, bytes)
                           : cuda::take_unified(device.index, bytes);
  } catch (...) {
    unreserve(device, bytes);
    throw;
  }
  {
    std::lock_guard lock(known().mutex);
    known().allocations[static_cast<char*>(data)] = {bytes, {}};
  }
  note(EventKind::kManaged, "take", device, bytes);
  auto storage =
      Storage::wrap(device, data, bytes, [device, data, bytes] { forget(device, data, bytes); });
  return Tensor(Ref<TensorImpl>::adopt(
      new TensorImpl(std::move(storage), sizes, row_major_strides(sizes), 0, dtype)));
}

bool is_unified(const Tensor& t) {
  if (!t.defined() || !t.storage().wrapped()) return false;
  std::lock_guard lock(known().mutex);
  return find(t.storage().data()) != nullptr;
}

void set_unified_limit(std::optional<size_t> bytes) {
  std::lock_guard lock(known().mutex);
  known().limit = bytes.value_or(~size_t{0});
}

UnifiedUse unified_use(Device device) {
  check_device(device);
  std::lock_guard lock(known().mutex);
  return use_of(device);
}

void advise(const Tensor& t, Advice advice, Device place) {
  check_unified("fabric.advise", t);
  check_device(place);
  if (t.numel() == 0) return;
  if (t.device().is_cuda()) {
    cuda::advise(t.device().index, range_of(t), advice, place);
  } else {
    std::lock_guard lock(known().mutex);
    remember(find(t.storage().data())->asked, advice, place);
  }
  note(EventKind::kManaged, name(advice), t.device(), t.bytes());
}

void prefetch(const Tensor& t, Device place) {
  check_unified("fabric.prefetch", t);
  check_device(place);
  if (t.numel() == 0) return;
  if (t.device().is_cuda()) {
    cuda::prefetch(t.device().index, range_of(t), place);
  } else {
    std::lock_guard lock(known().mutex);
    find(t.storage().data())->asked.prefetched = place;
  }
  note(EventKind::kManaged, place.is_cpu() ? "prefetch_to_host" : "prefetch_to_device", t.device(),
       t.bytes());
}

Residency residency(const Tensor& t) {
  check_unified("fabric.residency", t);
  if (t.numel() == 0) return {};
  if (t.device().is_cuda()) return cuda::residency(t.device().index, range_of(t));
  std::lock_guard lock(known().mutex);
  return find(t.storage().data())->asked;
}

}  // namespace vt::fabric
