// The stopwatch of a build without CUDA: says so.
#include "collectives/stopwatch.h"

#include "base/error.h"
#include "device/backend.h"

namespace vt::collectives::cuda {

std::vector<double> time_in_graph(const fabric::Mesh&, const std::function<void()>&, int, int) {
  fail(ErrorKind::kRuntime, "time_in_graph: ", cuda_unavailable_reason());
}

}  // namespace vt::collectives::cuda
