// What the user may choose about how kernels compute.
#pragma once
#include <atomic>

namespace vt {

struct KernelSettings {
  // May float32 products on a GPU round their inputs to TF32 (10 bits of fraction)?
  std::atomic<bool> allow_tf32{false};
  // Must kernels of cuDNN give the same bits in every run?
  std::atomic<bool> cudnn_deterministic{true};
};

KernelSettings& kernel_settings();

}  // namespace vt
