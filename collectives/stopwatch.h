// Times collective calls as benchmarks need it: many in a row, with nothing but the calls in
// between.
#pragma once
#include <functional>
#include <span>
#include <vector>

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

// Seconds a call, of each of `replays` runs of `calls` calls from one graph over all devices of the
// mesh: what the devices need where the host costs nothing. `call` queues one call of the
// communicator on the current streams. RuntimeError on CPU devices, which have no graphs.
std::vector<double> time_in_graph(Communicator& communicator, const std::function<void()>& call,
                                  int calls, int replays);

namespace cuda {  // collectives/cuda, or collectives/no_cuda
std::vector<double> time_in_graph(const fabric::Mesh& mesh, const std::function<void()>& call,
                                  int calls, int replays);
}

}  // namespace vt::collectives
