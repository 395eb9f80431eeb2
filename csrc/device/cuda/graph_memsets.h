// One clearing of workspaces in the place of many: Note [Workspaces cleared at once].
#pragma once
#include <cuda_runtime_api.h>

#include <span>

#include "device/capture.h"

namespace vt::cuda {

// The workspace of a call of a library that the stream is next given, if it is being captured and
// the workspace is small: it stays with the graph. Null otherwise.
void* workspace_in_graph(Stream stream, size_t bytes);

// Takes out of a graph that was captured the nodes that clear a workspace as the first of its call,
// and puts one node a block of them in front of all others that clears what these did.
cudaError_t gather_memsets(cudaGraph_t graph, std::span<const Capture::Workspace> workspaces);

}  // namespace vt::cuda
