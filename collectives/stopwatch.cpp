// The timing loop.
#include "collectives/stopwatch.h"

#include <chrono>

#include "base/error.h"

namespace vt::collectives {

double time_calls(Communicator& communicator, const Request& request,
                  std::span<const Tensor> inputs, std::span<const Tensor> outputs,
                  std::span<const int> to, int iterations) {
  VT_CHECK(iterations > 0, kValue, name(request.kind),
           ": expected a positive number of iterations, got ", iterations);
  communicator.synchronize();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < iterations; ++i) communicator.run(request, inputs, outputs, to);
  communicator.synchronize();
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  return passed.count() / iterations;
}

std::vector<double> time_in_graph(Communicator& communicator, const std::function<void()>& call,
                                  int calls, int replays) {
  VT_CHECK(calls > 0 && replays > 0, kValue,
           "time_in_graph: expected positive numbers of calls and replays, got ", calls, " and ",
           replays);
  VT_CHECK(communicator.mesh().is_cuda(), kRuntime,
           "time_in_graph: only GPUs have graphs, the mesh is ", communicator.mesh());
  call();  // what happens once happens before the capture
  communicator.synchronize();
  auto seconds = cuda::time_in_graph(communicator.mesh(), call, calls, replays);
  call();  // the events that order calls belong to the capture now: make them ordinary again
  communicator.synchronize();
  return seconds;
}

}  // namespace vt::collectives
