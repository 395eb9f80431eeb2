// Times collective calls as benchmarks need it: many in a row, with nothing but the calls in
// between.
#pragma once
#include <span>

#include "collectives/communicator.h"

namespace vt::collectives {

// Seconds a call of `iterations` group calls, from a standing start to the moment all ranks are
// done.
double time_calls(Communicator& communicator, const Request& request,
                  std::span<const Tensor> inputs, std::span<const Tensor> outputs,
                  std::span<const int> to, int iterations);
inline double time_all_reduce(Communicator& communicator, std::span<const Tensor> inputs,
                              std::span<const Tensor> outputs, ReduceOp op, int iterations) {
  return time_calls(communicator, {Kind::kAllReduce, op}, inputs, outputs, {}, iterations);
}

}  // namespace vt::collectives
