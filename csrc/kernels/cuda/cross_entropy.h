// What rows of logits are compared with in the cross-entropy kernels.
#pragma once
#include "device/cuda/fault.h"
#include "kernels/types.h"

namespace vt::cuda {

template <class C>
struct Labels {
  const int64_t* targets;
  int64_t rows, classes, ignored;
  C smoothing;
  FaultNote* note;

  // -1 where the row does not count: its target is ignored, or out of range (which is noted).
  __device__ __forceinline__ int64_t counted(int64_t row, bool report) const {
    const int64_t target = targets[row];
    if (target == ignored) return -1;
    if (target >= 0 && target < classes) return target;
    if (report) note_index_fault(note, "cross_entropy", target, classes);
    return -1;
  }
  __device__ __forceinline__ C loss(C logsumexp, C target_logit, C total) const {
    C result = logsumexp - (C(1) - smoothing) * target_logit;
    if (smoothing != 0) result -= smoothing * (total / static_cast<C>(classes));
    return result;
  }
};

}  // namespace vt::cuda
