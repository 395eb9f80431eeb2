// Taking memory from a device and giving it back.
#include "tensor/storage.h"

#include "device/cpu/memory.h"
#include "device/profiler.h"

namespace vt {
namespace {

// Of CPU memory; an allocator of a GPU tells of its own.
VT_NOINLINE void tell_profiler(Device device, const void* data, int64_t bytes) {
  const MemoryStats now = cpu::memory_stats();
  profiler::note_memory(device, data, bytes, static_cast<int64_t>(now.allocated),
                        static_cast<int64_t>(now.reserved));
}

}  // namespace

std::atomic<Storage::FreeObserver> Storage::g_free_observer{nullptr};

void Storage::give_back(Device device, void* data, size_t bytes) {
  if (profiler::wants_memory() && device.is_cpu())
    tell_profiler(device, data, -static_cast<int64_t>(bytes));
  if (device.is_cpu()) cpu::deallocate(data, bytes);
  else backend(device).deallocate(device.index, data, bytes);
}

Ref<Storage> Storage::create(Device device, size_t bytes) {
  void* data = nullptr;
  if (VT_LIKELY(bytes > 0))
    data = device.is_cpu() ? cpu::allocate(bytes) : backend(device).allocate(device.index, bytes);
  if (profiler::wants_memory() && device.is_cpu() && data)
    tell_profiler(device, data, static_cast<int64_t>(bytes));
  return Ref<Storage>::adopt(new Storage(device, data, bytes));
}

Ref<Storage> Storage::wrap(Device device, void* data, size_t bytes, std::function<void()> release) {
  auto* storage = new Storage(device, data, bytes);
  storage->release_ = new std::function<void()>(std::move(release));
  return Ref<Storage>::adopt(storage);
}

void Storage::destroy(Storage* storage) {
  if (VT_UNLIKELY(storage->release_ != nullptr)) {
    if (*storage->release_) (*storage->release_)();
    delete storage->release_;
  } else if (storage->data_ != nullptr) {
    const FreeObserver observer = g_free_observer.load(std::memory_order_relaxed);
    if (VT_LIKELY(observer == nullptr) ||
        !observer(storage->device_, storage->data_, storage->bytes_))
      give_back(storage->device_, storage->data_, storage->bytes_);
  }
  delete storage;
}

}  // namespace vt
