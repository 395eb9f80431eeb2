// Unified memory of GPUs in a build without CUDA: there is none.
#include "fabric/unified.h"

#include "base/error.h"

namespace vt::fabric::cuda {
namespace {

[[noreturn]] void refuse() {
  fail(ErrorKind::kRuntime, "unified memory: ", cuda_unavailable_reason());
}

}  // namespace

void* take_unified(int, size_t) { refuse(); }
void give_back_unified(int, void*) noexcept {}
void advise(int, UnifiedRange, Advice, Device) { refuse(); }
void prefetch(int, UnifiedRange, Device) { refuse(); }
Residency residency(int, UnifiedRange) { refuse(); }

}  // namespace vt::fabric::cuda
