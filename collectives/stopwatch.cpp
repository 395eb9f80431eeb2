// The timing loop.
#include "collectives/stopwatch.h"

#include <chrono>

#include "base/error.h"

namespace vt::collectives {

double time_all_reduce(Communicator& communicator, std::span<const Tensor> inputs,
                       std::span<const Tensor> outputs, ReduceOp op, int iterations) {
  VT_CHECK(iterations > 0, kValue,
           "time_all_reduce: expected a positive number of iterations, got ", iterations);
  communicator.synchronize();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < iterations; ++i) communicator.all_reduce(inputs, outputs, op);
  communicator.synchronize();
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  return passed.count() / iterations;
}

}  // namespace vt::collectives
