// Copies whose two sides are contiguous in different dimensions.
#pragma once
#include "iter/elementwise.h"

namespace vt::cpu::VT_ISA {

// Copies operand 1 of the plan, items of `size` bytes, to operand 0, if operand 0 is contiguous in
// dimension 0 and operand 1 in another one; false if they are not.
bool transpose_copy(const ElementwisePlan& plan, int64_t size);

}  // namespace vt::cpu::VT_ISA
