// One step of a loss scale, the same on the host and on a GPU.
#pragma once
#include <limits>

#include "base/macros.h"
#include "kernels/types.h"

namespace vt {

// out = {factor on the gradients, whether they overflowed, their norm without the scale}; state =
// {scale, steps that it was good}. Scales are powers of 2, so that undoing them costs no bits.
VT_HD void step_loss_scale(float (&out)[3], float (&state)[2], float norm,
                           const LossScaleConfig& config) {
  const float scale = state[0], inverse = 1 / scale, plain = norm * inverse;
  const bool overflow = !(norm < std::numeric_limits<float>::infinity());
  const float clipped = static_cast<float>(config.clip) / (plain + 1e-6f);
  out[0] = (clipped < 1 ? clipped : 1.f) * inverse;
  out[1] = overflow ? 1.f : 0.f;
  out[2] = plain;
  if (overflow) {
    const float lower = scale * static_cast<float>(config.backoff);
    const auto lowest = static_cast<float>(config.lowest);
    state[0] = lower > lowest ? lower : lowest;
    state[1] = 0;
  } else if (state[1] + 1 >= static_cast<float>(config.interval)) {
    const float higher = scale * static_cast<float>(config.growth);
    const auto highest = static_cast<float>(config.highest);
    state[0] = higher < highest ? higher : highest;
    state[1] = 0;
  } else {
    state[1] += 1;
  }
}

}  // namespace vt
