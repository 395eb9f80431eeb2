// Picks, once, the build of the CPU kernels that this processor runs fastest.
#include "device/cpu/isa.h"
#include "kernels/table.h"

namespace vt {
namespace cpu {
namespace base {
const Kernels& table();
}
#if defined(__x86_64__)
namespace avx2 {
const Kernels& table();
}
namespace avx512 {
const Kernels& table();
}
#endif
}  // namespace cpu

namespace {

const Kernels& choose() {
#if defined(__x86_64__)
  if (cpu::isa() == cpu::Isa::kAvx512) return cpu::avx512::table();
  if (cpu::isa() == cpu::Isa::kAvx2) return cpu::avx2::table();
#endif
  return cpu::base::table();
}

}  // namespace

std::atomic<const Kernels*> g_stand_in[2] = {};

const Kernels& cpu_kernels() {
  static const Kernels& table = choose();
  return table;
}

}  // namespace vt
