// Times collective calls as benchmarks need it: many in a row, with nothing but the calls in
// between.
#pragma once
#include <span>

#include "collectives/communicator.h"

namespace vt::collectives {

// Seconds a call of `iterations` all-reduces, from a standing start to the moment all ranks are
// done.
double time_all_reduce(Communicator& communicator, std::span<const Tensor> inputs,
                       std::span<const Tensor> outputs, ReduceOp op, int iterations);

}  // namespace vt::collectives
