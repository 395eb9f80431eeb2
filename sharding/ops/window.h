// Indices into a dimension of which each rank holds one window.
#pragma once
#include <algorithm>

#include "ops/ops.h"
#include "sharding/placement.h"

namespace vt::sharding {

struct Window {
  Tensor index;   // counted from the window's start, brought into it where it lay outside
  Tensor inside;  // bool: where it lay inside

  // The window may not be empty.
  Window(const Tensor& global, Range range)
      : index(vt::clamp(vt::sub(global, Scalar(range.start), 1), Scalar(0),
                        Scalar(range.length - 1))),
        inside(vt::logical_and(vt::ge(global, Scalar(range.start)),
                               vt::lt(global, Scalar(range.start + range.length)))) {}
};

}  // namespace vt::sharding
