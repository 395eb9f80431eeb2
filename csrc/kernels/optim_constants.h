// What one step of an optimizer needs at each element, computed once in double: on the host by one
// function for an eager step and for the live values of a captured one, so both have the same bits;
// on the device for a step with a guard, eager or captured, whose number only the device knows.
#pragma once
#include <cmath>

#include "base/macros.h"
#include "kernels/types.h"

namespace vt {

template <class C>  // float or double
struct AdamWConstants {
  using Options = AdamWOptions;
  AdamWConstants() = default;
  explicit AdamWConstants(const Options& options);  // on the host
  C beta2, rest1, rest2, decay, eps, step_size, root_correction2;

  VT_HD void set(const Options& o) {
    const auto step = static_cast<double>(o.step);
    beta2 = static_cast<C>(o.beta2);
    rest1 = static_cast<C>(1 - o.beta1);
    rest2 = static_cast<C>(1 - o.beta2);
    decay = static_cast<C>(1 - o.lr * o.weight_decay);
    eps = static_cast<C>(o.eps);
    step_size = static_cast<C>(o.lr / (1 - pow(o.beta1, step)));
    root_correction2 = static_cast<C>(sqrt(1 - pow(o.beta2, step)));
  }
};

template <class C>
struct SgdConstants {
  using Options = SgdOptions;
  SgdConstants() = default;
  explicit SgdConstants(const Options& options);
  C lr, decay, momentum, rest;
  bool nesterov, first;

  VT_HD void set(const Options& o) {
    lr = static_cast<C>(o.lr);
    decay = static_cast<C>(o.weight_decay);
    momentum = static_cast<C>(o.momentum);
    rest = static_cast<C>(1 - o.dampening);
    nesterov = o.nesterov;
    first = o.step == 1;
  }
};

}  // namespace vt
