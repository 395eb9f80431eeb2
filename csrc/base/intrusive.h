// Reference counting inside the object, and the pointer that does it. One word, no control block.
#pragma once
#include <atomic>
#include <cstdint>
#include <utility>

#include "base/macros.h"

namespace vt {

// Derive as `class Node : public RefCounted<Node>`; when the last Ref goes,
// `Derived::destroy(object)` runs.
template <class Derived>
class RefCounted {
 public:
  void retain() const { count_.fetch_add(1, std::memory_order_relaxed); }
  void release() const {
    if (count_.fetch_sub(1, std::memory_order_acq_rel) == 1)
      Derived::destroy(const_cast<Derived*>(static_cast<const Derived*>(this)));
  }
  uint32_t use_count() const { return count_.load(std::memory_order_acquire); }

 protected:
  RefCounted() = default;
  ~RefCounted() = default;
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

 private:
  mutable std::atomic<uint32_t> count_{1};
};

template <class T>
class Ref {
 public:
  Ref() = default;
  Ref(std::nullptr_t) {}
  static Ref adopt(T* owned) {  // takes over a count that the caller holds
    Ref ref;
    ref.pointer_ = owned;
    return ref;
  }
  static Ref share(T* borrowed) {
    if (borrowed) borrowed->retain();
    return adopt(borrowed);
  }
  Ref(const Ref& other) : pointer_(other.pointer_) {
    if (pointer_) pointer_->retain();
  }
  Ref(Ref&& other) noexcept : pointer_(std::exchange(other.pointer_, nullptr)) {}
  template <class U>
  Ref(Ref<U> other) : pointer_(other.leak()) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(pointer_, other.pointer_);
    return *this;
  }
  ~Ref() {
    if (pointer_) pointer_->release();
  }

  T* get() const { return pointer_; }
  T* operator->() const { return pointer_; }
  T& operator*() const { return *pointer_; }
  explicit operator bool() const { return pointer_ != nullptr; }
  bool operator==(const Ref& other) const { return pointer_ == other.pointer_; }
  T* leak() { return std::exchange(pointer_, nullptr); }

 private:
  T* pointer_ = nullptr;
};

}  // namespace vt
