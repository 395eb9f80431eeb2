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

}  // namespace vt::collectives
