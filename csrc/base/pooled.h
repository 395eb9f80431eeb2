// Free lists for small objects that every operation makes: a class that derives from Pooled<Itself>
// is allocated from a list of the calling thread.
#pragma once
#include <cstddef>
#include <new>

#include "base/macros.h"

namespace vt {

template <class T>
class Pooled {
 public:
  static void* operator new(size_t bytes) {
    Pool& pool = local();
    if (VT_LIKELY(bytes == sizeof(T) && pool.head != nullptr)) {
      Slot* slot = pool.head;
      pool.head = slot->next;
      --pool.count;
      return slot;
    }
    return ::operator new(bytes);
  }
  static void operator delete(void* object, size_t bytes) {
    Pool& pool = local();
    if (VT_UNLIKELY(bytes != sizeof(T) || pool.gone || pool.count >= kKeep))
      return ::operator delete(object);
    auto* slot = static_cast<Slot*>(object);
    slot->next = pool.head;
    pool.head = slot;
    ++pool.count;
  }

 private:
  static constexpr int kKeep = 1024;
  struct Slot {
    Slot* next;
  };
  struct Pool {
    Slot* head = nullptr;
    int count = 0;
    bool gone = false;  // this thread is ending: later frees go to the system
    ~Pool() {
      gone = true;
      while (head) {
        Slot* slot = head;
        head = slot->next;
        ::operator delete(slot);
      }
    }
  };
  static Pool& local() {
    static thread_local Pool pool;
    return pool;
  }
};

}  // namespace vt
