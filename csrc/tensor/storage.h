// A block of memory on one device, shared by the tensors that view it, with the version counter
// that in-place operations raise and saved tensors check.
#pragma once
#include <atomic>
#include <functional>

#include "base/intrusive.h"
#include "base/pooled.h"
#include "device/backend.h"

namespace vt {

class Storage : public RefCounted<Storage>, public Pooled<Storage> {
 public:
  // Uninitialised memory of the device; 0 bytes is allowed and has a null pointer.
  static Ref<Storage> create(Device device, size_t bytes);
  // Memory that somebody else owns; `release` runs when the last tensor is gone.
  static Ref<Storage> wrap(Device device, void* data, size_t bytes, std::function<void()> release);

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  bool wrapped() const { return release_ != nullptr; }  // not memory of the device's allocator
  uint32_t version() const { return version_.load(std::memory_order_relaxed); }
  void bump_version() { version_.fetch_add(1, std::memory_order_relaxed); }

  static void destroy(Storage* storage);

  // Asked before memory goes back to the allocator: true where the observer keeps it, and gives it
  // back by itself later. Null by default.
  using FreeObserver = bool (*)(Device device, void* data, size_t bytes);
  static void observe_frees(FreeObserver observer) {
    g_free_observer.store(observer, std::memory_order_relaxed);
  }
  static void give_back(Device device, void* data, size_t bytes);

 private:
  Storage(Device device, void* data, size_t bytes) : data_(data), bytes_(bytes), device_(device) {}
  ~Storage() = default;
  friend class Pooled<Storage>;
  static std::atomic<FreeObserver> g_free_observer;

  void* data_;
  size_t bytes_;
  Device device_;
  std::atomic<uint32_t> version_{0};
  std::function<void()>* release_ = nullptr;  // null: the memory is the device allocator's
};

}  // namespace vt
