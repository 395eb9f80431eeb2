// Names of algorithms.
#include "collectives/engine.h"

#include <iterator>

#include "base/error.h"

namespace vt::collectives {
namespace {

constexpr std::string_view kNames[] = {"auto",     "packets", "lines",       "packets2", "one_shot",
                                       "two_shot", "push",    "copy_engine", "ring",     "nccl"};

}  // namespace

std::string_view name(Algorithm algorithm) { return kNames[static_cast<int>(algorithm)]; }

std::span<const std::string_view> algorithm_names() { return kNames; }

Algorithm parse_algorithm(std::string_view text) {
  for (size_t i = 0; i < std::size(kNames); ++i)
    if (kNames[i] == text) return static_cast<Algorithm>(i);
  std::string known;
  for (std::string_view each : kNames) known += str(known.empty() ? "" : ", ", each);
  fail(ErrorKind::kValue, "communicator: unknown algorithm '", text, "'; expected one of ", known);
}

}  // namespace vt::collectives
