// Taking memory from a device and giving it back.
#include "tensor/storage.h"

#include "device/cpu/memory.h"

namespace vt {

std::atomic<Storage::FreeObserver> Storage::g_free_observer{nullptr};

void Storage::give_back(Device device, void* data, size_t bytes) {
  if (device.is_cpu()) cpu::deallocate(data, bytes);
  else backend(device).deallocate(device.index, data, bytes);
}

Ref<Storage> Storage::create(Device device, size_t bytes) {
  void* data = nullptr;
  if (VT_LIKELY(bytes > 0))
    data = device.is_cpu() ? cpu::allocate(bytes) : backend(device).allocate(device.index, bytes);
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
