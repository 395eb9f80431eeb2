// Choosing an algorithm for a product: by a table of measured choices, by measuring, or by the
// heuristic. Note [Choices of products].
#pragma once
#include <optional>

#include "kernels/cuda/vendor/product_plan.h"
#include "kernels/product_choices.h"

namespace vt::cuda::cublaslt {

// Sets the plan's algorithm; false where cuBLASLt has none. Once a thread and key, never hot.
bool choose_algorithm(const Key& key, Plan& plan);

struct Measured {
  std::optional<Algorithm> best;              // nullopt: the heuristic's first
  double milliseconds, default_milliseconds;  // of the best and of the heuristic's first
};

// Times what the heuristic names, variants with K split, on operands made for this; the first one
// stays where no other is faster by a hundredth. What is chosen gave the same bits in several runs.
// Waits for the GPU. nullopt, and nothing is measured: no algorithm, no memory for the operands, or
// the calling thread's stream does not come to rest, as where it waits for another thread. The
// device must be current, and nothing may be being captured.
std::optional<Measured> measure(const Key& key);

}  // namespace vt::cuda::cublaslt
