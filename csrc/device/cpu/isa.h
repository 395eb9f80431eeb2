// Which instruction set the vector code of this process uses.
#pragma once

namespace vt::cpu {

enum class Isa { kBase, kAvx2, kAvx512 };

// The widest that this processor has, or what VIBETENSOR_CPU_ISA asks for; decided at the first
// call. Throws a RuntimeError if the processor lacks what was asked for.
Isa isa();

}  // namespace vt::cpu
