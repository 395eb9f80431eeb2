// Starting a kernel as a graph of one node.
#pragma once
#include <cuda_runtime_api.h>

namespace vt::cuda {

// Note [Kernels as graphs of one]
// The driver takes half the time for the launch of a graph that it takes for the launch of a
// kernel, and a quarter of a microsecond to give the kernel of a graph other arguments. So each
// thread keeps graphs of one kernel, whose arguments are set anew for each launch; launches that
// are queued already keep theirs. Graphs know no priority of streams, and one that is launched on
// two streams has them wait for each other, so this is for the default stream.
// VIBETENSOR_GRAPH_STARTS=off has every kernel launched as such.

// Launches `function` of the current device, which is `index`, on its default stream. False: not
// wanted, or refused, and nothing was queued.
bool start_as_graph(int index, cudaFunction_t function, dim3 grid, dim3 block, void** arguments,
                    size_t shared_bytes);

}  // namespace vt::cuda
