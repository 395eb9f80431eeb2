// Without CUDA there are no kernels for products with GELU.
#include "kernels/settings.h"

namespace vt {

bool has_gelu_products() { return false; }

}  // namespace vt
