// The failed start of a kernel, on its way up to whoever knows what the operation was given.
#pragma once
#include "base/error.h"

namespace vt {

class LaunchError : public Error {
 public:
  using Error::Error;
};

}  // namespace vt
