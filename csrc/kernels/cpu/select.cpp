// Picks, once, the build of the CPU kernels that this processor runs fastest.
#include "base/env.h"
#include "base/error.h"
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
  const std::string wanted = env::cpu_isa();
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  VT_CHECK(wanted != "avx2" || has_avx2, kRuntime, "VIBETENSOR_CPU_ISA: this processor has no AVX2");
  VT_CHECK(wanted != "avx512" || has_avx512, kRuntime, "VIBETENSOR_CPU_ISA: this processor has no AVX-512");
  if (wanted == "avx512" || (wanted == "auto" && has_avx512)) return cpu::avx512::table();
  if (wanted == "avx2" || (wanted == "auto" && has_avx2)) return cpu::avx2::table();
#else
  VT_CHECK(wanted == "auto" || wanted == "base", kRuntime, "VIBETENSOR_CPU_ISA: only x86-64 has other builds than base");
#endif
  return cpu::base::table();
}

}  // namespace

const Kernels& cpu_kernels() {
  static const Kernels& table = choose();
  return table;
}

}  // namespace vt
