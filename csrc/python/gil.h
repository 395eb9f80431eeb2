// Giving up and taking the GIL around C++ work. Knows how much work is worth it, nothing of the
// work itself.
#pragma once
#include <Python.h>

#include <utility>
#include <vector>

#include "ops/operand.h"
#include "python/stack.h"
#include "tensor/tensor.h"

namespace vt::py {

// Below this many CPU elements, handing over the GIL costs more than it lets others do.
inline constexpr int64_t kReleaseAbove = 32768;

namespace detail {
// A CUDA operation only queues work, so it counts as none.
inline int64_t work_of(const Tensor& t) {
  return t.defined() && t.device().is_cpu() ? t.numel() : 0;
}
inline int64_t work_of(const Operand& operand) {
  return operand.tensor ? work_of(*operand.tensor) : 0;
}
inline int64_t work_of(const std::vector<Tensor>& list) {
  int64_t total = 0;
  for (const Tensor& t : list) total += work_of(t);
  return total;
}
inline int64_t work_of(int64_t elements) { return elements; }
}  // namespace detail

// Without the GIL while it lives, if the tensors (or element counts) named add up to enough CPU
// work.
class ReleaseGil {
 public:
  template <class... Values>
  explicit ReleaseGil(const Values&... values) {
    // A caller further up may have let go of it already.
    if (VT_UNLIKELY((detail::work_of(values) + ... + int64_t{0}) > kReleaseAbove) &&
        PyGILState_Check()) {
      kept_ = g_stack_users.load(std::memory_order_relaxed) != 0;
      if (VT_UNLIKELY(kept_)) keep_frames();
      state_ = PyEval_SaveThread();
    }
  }
  ~ReleaseGil() { reacquire(); }
  void reacquire() {
    if (VT_LIKELY(state_ == nullptr)) return;
    PyEval_RestoreThread(std::exchange(state_, nullptr));
    if (VT_UNLIKELY(kept_)) drop_frames();
  }
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;

  static constexpr int64_t kAlways = int64_t{1} << 62;  // for calls that may wait

 private:
  PyThreadState* state_ = nullptr;
  bool kept_ = false;
};

// With the GIL while it lives, from any thread.
class HoldGil {
 public:
  HoldGil() : state_(PyGILState_Ensure()) {}
  ~HoldGil() { PyGILState_Release(state_); }
  HoldGil(const HoldGil&) = delete;
  HoldGil& operator=(const HoldGil&) = delete;

 private:
  PyGILState_STATE state_;
};

}  // namespace vt::py
