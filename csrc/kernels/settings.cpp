// The process's settings.
#include "kernels/settings.h"

namespace vt {

KernelSettings& kernel_settings() {
  static KernelSettings settings;
  return settings;
}

}  // namespace vt
