// Finding the nodes that clear workspaces, and taking them out of the chain.
#include "device/cuda/graph_memsets.h"

#include <algorithm>
#include <map>
#include <vector>

#include "device/cuda/device.h"
#include "device/cuda/graph.h"

namespace vt::cuda {

void* workspace_in_graph(Stream stream, size_t bytes) {
  constexpr size_t kMost = size_t{64} << 10;
  if (bytes == 0 || bytes > kMost || !any_capture()) return nullptr;
  Capture* const capture = active_capture(stream.device);
  std::vector<cudaGraphNode_t> after;
  if (!capture || !capture_dependencies(stream, after)) return nullptr;
  return capture->take_workspace(stream.device, bytes, {after.begin(), after.end()});
}

#if CUDART_VERSION >= 12030
namespace {

using Nodes = std::vector<cudaGraphNode_t>;
using NeighboursFn = cudaError_t(cudaGraphNode_t, cudaGraphNode_t*, cudaGraphEdgeData*, size_t*);

#if CUDART_VERSION >= 13000
constexpr NeighboursFn* kBefore = &cudaGraphNodeGetDependencies;
constexpr NeighboursFn* kAfter = &cudaGraphNodeGetDependentNodes;
constexpr auto* kConnect = &cudaGraphAddDependencies;
#else
constexpr NeighboursFn* kBefore = &cudaGraphNodeGetDependencies_v2;
constexpr NeighboursFn* kAfter = &cudaGraphNodeGetDependentNodes_v2;
constexpr auto* kConnect = &cudaGraphAddDependencies_v2;
#endif

// Throws away the first error of a row of calls, but keeps it.
class Calls {
 public:
  bool good() const { return code_ == cudaSuccess; }
  cudaError_t code() const { return code_; }
  void note(cudaError_t code) {
    if (good()) code_ = code;
  }

  // Asked with room for the edges' data: a question for the number alone may be refused where they
  // have any.
  Nodes neighbours(NeighboursFn* which, cudaGraphNode_t node) {
    for (size_t room = 16;; room *= 4) {
      Nodes result(room);
      std::vector<cudaGraphEdgeData> edges(room);
      size_t count = room;
      note(which(node, result.data(), edges.data(), &count));
      if (!good()) return {};
      if (count == room) continue;  // perhaps not all
      result.resize(count);
      return result;
    }
  }
  void connect(cudaGraph_t graph, cudaGraphNode_t from, cudaGraphNode_t to) {
    const cudaGraphEdgeData whole{};  // after the end of
    note(kConnect(graph, &from, &to, &whole, 1));
  }

 private:
  cudaError_t code_ = cudaSuccess;
};

struct Clearing {
  cudaGraphNode_t node;
  char* begin;
  char* end;
  std::pair<int, int> block;  // of which device, and of it the how manieth
};

// The node's memory, if it clears part of a workspace before anything else of the same call.
bool find_clearing(Calls& calls, cudaGraphNode_t node,
                   std::span<const Capture::Workspace> workspaces, Clearing& result) {
  cudaGraphNodeType type{};
  calls.note(cudaGraphNodeGetType(node, &type));
  if (!calls.good() || type != cudaGraphNodeTypeMemset) return false;
  cudaMemsetParams what{};
  calls.note(cudaGraphMemsetNodeGetParams(node, &what));
  if (!calls.good() || what.value != 0 || what.height > 1) return false;
  char* const begin = static_cast<char*>(what.dst);
  char* const end = begin + what.width * what.elementSize;
  const auto found = std::ranges::find_if(workspaces, [&](const Capture::Workspace& each) {
    return each.data <= begin && end <= each.data + each.bytes;
  });
  if (found == workspaces.end()) return false;
  const Nodes before = calls.neighbours(kBefore, node);
  const auto same = [&](cudaGraphNode_t one) {
    return std::ranges::find(found->after, static_cast<const void*>(one)) != found->after.end();
  };
  if (!calls.good() || before.size() != found->after.size() || !std::ranges::all_of(before, same))
    return false;
  result = {node, begin, end, {found->device.index, found->block}};
  return true;
}

// What follows the node follows what it followed; the node goes.
void take_out(Calls& calls, cudaGraph_t graph, cudaGraphNode_t node) {
  const Nodes before = calls.neighbours(kBefore, node), after = calls.neighbours(kAfter, node);
  for (cudaGraphNode_t next : after) {
    if (!calls.good()) return;
    const Nodes known = calls.neighbours(kBefore, next);
    for (cudaGraphNode_t last : before)
      if (std::ranges::find(known, last) == known.end()) calls.connect(graph, last, next);
  }
  if (calls.good()) calls.note(cudaGraphDestroyNode(node));
}

void clear_in_front(Calls& calls, cudaGraph_t graph, int device, char* begin, char* end) {
  size_t count = 0;
  calls.note(cudaGraphGetRootNodes(graph, nullptr, &count));
  Nodes roots(count);
  if (calls.good() && count > 0) calls.note(cudaGraphGetRootNodes(graph, roots.data(), &count));
  if (!calls.good()) return;
  const DeviceGuard guard(device);
  cudaMemsetParams what{};
  what.dst = begin;
  what.elementSize = 1;
  what.width = static_cast<size_t>(end - begin);
  what.height = 1;
  cudaGraphNode_t first = nullptr;
  calls.note(cudaGraphAddMemsetNode(&first, graph, nullptr, 0, &what));
  for (cudaGraphNode_t root : roots)
    if (calls.good()) calls.connect(graph, first, root);
}

}  // namespace

cudaError_t gather_memsets(cudaGraph_t graph, std::span<const Capture::Workspace> workspaces) {
  if (workspaces.empty()) return cudaSuccess;
  Calls calls;
  size_t count = 0;
  calls.note(cudaGraphGetNodes(graph, nullptr, &count));
  Nodes nodes(count);
  if (calls.good() && count > 0) calls.note(cudaGraphGetNodes(graph, nodes.data(), &count));
  std::vector<Clearing> found;
  for (cudaGraphNode_t node : nodes) {
    Clearing clearing{};
    if (calls.good() && find_clearing(calls, node, workspaces, clearing)) found.push_back(clearing);
  }
  std::map<std::pair<int, int>, std::pair<char*, char*>> cleared;
  for (const Clearing& each : found) {
    if (!calls.good()) break;
    take_out(calls, graph, each.node);
    auto& [begin, end] = cleared.try_emplace(each.block, each.begin, each.end).first->second;
    begin = std::min(begin, each.begin);
    end = std::max(end, each.end);
  }
  for (const auto& [block, range] : cleared)
    if (calls.good()) clear_in_front(calls, graph, block.first, range.first, range.second);
  return calls.code();
}
#else
// Edges of such a driver interface carry no data, and are not read here.
cudaError_t gather_memsets(cudaGraph_t, std::span<const Capture::Workspace>) { return cudaSuccess; }
#endif

}  // namespace vt::cuda
