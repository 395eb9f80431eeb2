// Taking memory from a device and giving it back.
#include "tensor/storage.h"

#include "device/cpu/memory.h"

namespace vt {

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
    if (storage->device_.is_cpu()) cpu::deallocate(storage->data_, storage->bytes_);
    else
      backend(storage->device_).deallocate(storage->device_.index, storage->data_, storage->bytes_);
  }
  delete storage;
}

}  // namespace vt
