// Edges of captured units.
#include "collectives/cuda/captured_units.h"

#include <algorithm>
#include <utility>

#include "device/cuda/graph.h"

namespace vt::collectives::gpu {
namespace {

bool contains(const std::vector<cudaGraphNode_t>& all, cudaGraphNode_t one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

}  // namespace

bool CapturedUnits::Lane::is_old(cudaGraphNode_t node) const {
  return ends.contains(node) && !contains(tail, node);
}

CapturedUnits::CapturedUnits(const fabric::Mesh& mesh) : mesh_(mesh) {
  for (Device device : mesh.devices())
    lanes_.emplace_back().done = cuda::create_event(device.index, false);
}

CapturedUnits::~CapturedUnits() {
  for (Lane& lane : lanes_) cuda::destroy_event(lane.done);
}

void CapturedUnits::enter(const Unit& unit, std::span<const Stream> streams) const {
  for (int r = 0; r < unit.ranks() && !unit.in_line; ++r)
    cuda::wait_event(streams[mesh_.device_number(r)], *static_cast<cuda::Event*>(unit.marks[r]));
}

bool CapturedUnits::begin(std::span<const Stream> streams) {
  bool adjacent = true;
  for (size_t d = 0; d < streams.size(); ++d) {
    const Stream stream = streams[d];
    Lane& lane = lanes_[d];
    const uint64_t capture = cuda::capture_id(stream);
    const bool first = std::exchange(lane.capture, capture) != capture;
    if (first) {
      lane.ends.clear();
      lane.tail.clear();
    } else if (!(stream == lane.stream)) {
      cuda::wait_event(stream, *lane.done);
    }
    lane.stream = stream;
    const bool known = cuda::capture_dependencies(stream, lane.begun);
    const size_t all = lane.begun.size();
    std::erase_if(lane.begun, [&](cudaGraphNode_t node) { return lane.is_old(node); });
    if (lane.begun.size() != all) cuda::set_capture_dependencies(stream, lane.begun);
    adjacent &= !first && known &&
                std::is_permutation(lane.begun.begin(), lane.begun.end(), lane.tail.begin(),
                                    lane.tail.end());
  }
  return adjacent;
}

void CapturedUnits::end(std::span<const Stream> streams) {
  for (size_t d = 0; d < streams.size(); ++d) {
    Lane& lane = lanes_[d];
    cuda::record_event(*lane.done, streams[d]);
    if (!cuda::capture_dependencies(streams[d], lane.tail)) lane.tail.clear();
    for (cudaGraphNode_t node : lane.tail)
      if (!contains(lane.begun, node)) lane.ends.insert(node);
  }
}

void CapturedUnits::join(int device, Stream stream) const {
  const Lane& lane = lanes_[device];
  if (lane.capture != cuda::capture_id(stream)) return;  // it has no units there
  if (stream == lane.stream) return;
  cuda::wait_event(stream, *lane.done);
  Nodes nodes;
  if (!cuda::capture_dependencies(stream, nodes)) return;
  const size_t all = nodes.size();
  std::erase_if(nodes, [&](cudaGraphNode_t node) { return lane.is_old(node); });
  if (nodes.size() != all) cuda::set_capture_dependencies(stream, nodes);
}

}  // namespace vt::collectives::gpu
