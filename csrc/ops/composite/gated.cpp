// Gated activations and rotary position embedding as users call them.
#include "ops/ops.h"

namespace vt {

Tensor swiglu(const Tensor& input, const Tensor& up) {
  return up.defined() ? gated(input, up, "silu") : gated_halves(input, "silu");
}

Tensor geglu(const Tensor& input, const Tensor& up, std::string_view approximate) {
  VT_CHECK(approximate == "none" || approximate == "tanh", kRuntime,
           "geglu: approximate argument must be either none or tanh, got '", approximate, "'");
  const std::string_view activation = approximate == "none" ? "gelu" : "gelu_tanh";
  return up.defined() ? gated(input, up, activation) : gated_halves(input, activation);
}

Tensor rope(const Tensor& input, double base, int64_t seq_dim, int64_t offset, bool interleaved) {
  return rope_turned(input, seq_dim, offset, base, interleaved, false);
}

}  // namespace vt
