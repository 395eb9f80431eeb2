// Choices of products in a build without CUDA: there is no library to choose from.
#include "kernels/product_choices.h"

#include "base/error.h"
#include "device/backend.h"

namespace vt {

uint64_t product_library_version() {
  fail(ErrorKind::kRuntime, "tunable: ", cuda_unavailable_reason());
}
std::vector<std::pair<std::string, std::string>> untuned_products(const std::string&) { return {}; }
int tune_untuned_products(int) {
  fail(ErrorKind::kRuntime, "tunable: ", cuda_unavailable_reason());
}

}  // namespace vt
