// The kernels, each in a file of its own.
#pragma once
#include "kernels/cuda/attention_gradients/job.h"
#include "kernels/cuda/attention_gradients/maps.h"
#include "kernels/cuda/attention_gradients/sums.h"
#include "kernels/cuda/launch.h"

namespace vt::cuda::attention_gradients {

inline constexpr int kRowsOfItem = 128, kRowsOfTile = 64;

// Gradients of queries, and shifts and deltas.
void launch_queries(const Queue& queue, DType dtype, int64_t width, const Maps& maps,
                    const Job& job);
// Gradients of keys and values, with what that made.
void launch_keys(const Queue& queue, DType dtype, int64_t width, const Maps& maps, const Job& job);
// Adds up what their Job::sums gave.
void launch_sums(const Queue& queue, DType dtype, const Sums& sums);

}  // namespace vt::cuda::attention_gradients
