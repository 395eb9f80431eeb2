// Asking the processor.
#include "device/cpu/isa.h"

#include "base/env.h"
#include "base/error.h"

namespace vt::cpu {
namespace {

Isa choose() {
  const std::string wanted = env::cpu_isa();
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("bmi2");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  VT_CHECK(wanted != "avx2" || has_avx2, kRuntime,
           "VIBETENSOR_CPU_ISA: this processor has no AVX2");
  VT_CHECK(wanted != "avx512" || has_avx512, kRuntime,
           "VIBETENSOR_CPU_ISA: this processor has no AVX-512");
  if (wanted == "avx512" || (wanted == "auto" && has_avx512)) return Isa::kAvx512;
  if (wanted == "avx2" || (wanted == "auto" && has_avx2)) return Isa::kAvx2;
#else
  VT_CHECK(wanted == "auto" || wanted == "base", kRuntime,
           "VIBETENSOR_CPU_ISA: only x86-64 has other builds than base");
#endif
  return Isa::kBase;
}

}  // namespace

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

}  // namespace vt::cpu
