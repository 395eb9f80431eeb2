// Convolutions on a CPU have no kernel of their own: they are products of matrices.
#include "kernels/structured_cpu.h"

namespace vt::cpu::VT_ISA {

void convolution(const Convolution&, bool* done) { *done = false; }

}  // namespace vt::cpu::VT_ISA
