// The constants of an optimizer's step.
#include "kernels/optim_constants.h"

#include <cmath>

namespace vt {

template <class C>
AdamWConstants<C>::AdamWConstants(const AdamWConfig& c)
    : beta2(static_cast<C>(c.beta2)),
      rest1(static_cast<C>(1 - c.beta1)),
      rest2(static_cast<C>(1 - c.beta2)),
      decay(static_cast<C>(1 - c.lr * c.weight_decay)),
      eps(static_cast<C>(c.eps)),
      step_size(static_cast<C>(c.lr / (1 - std::pow(c.beta1, static_cast<double>(c.step))))),
      root_correction2(
          static_cast<C>(std::sqrt(1 - std::pow(c.beta2, static_cast<double>(c.step))))) {}

template <class C>
SgdConstants<C>::SgdConstants(const SgdConfig& c)
    : lr(static_cast<C>(c.lr)),
      decay(static_cast<C>(c.weight_decay)),
      momentum(static_cast<C>(c.momentum)),
      rest(static_cast<C>(1 - c.dampening)),
      nesterov(c.nesterov),
      first(c.first) {}

template struct AdamWConstants<float>;
template struct AdamWConstants<double>;
template struct SgdConstants<float>;
template struct SgdConstants<double>;

}  // namespace vt
