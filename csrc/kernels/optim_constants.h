// What one step of an optimizer needs at each element, computed once on the host in double: by one
// function for an eager step and for the live values of a captured one, so both have the same bits.
#pragma once
#include "kernels/types.h"

namespace vt {

template <class C>  // float or double
struct AdamWConstants {
  explicit AdamWConstants(const AdamWConfig& config);
  C beta2, rest1, rest2, decay, eps, step_size, root_correction2;
};

template <class C>
struct SgdConstants {
  explicit SgdConstants(const SgdConfig& config);
  C lr, decay, momentum, rest;
  bool nesterov, first;
};

}  // namespace vt
