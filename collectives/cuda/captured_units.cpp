// Edges of captured units.
#include "collectives/cuda/captured_units.h"

#include <algorithm>

#include "device/cuda/graph.h"

namespace vt::collectives::gpu {
namespace {

bool contains(const std::vector<cudaGraphNode_t>& all, cudaGraphNode_t one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

}  // namespace

CapturedUnits::CapturedUnits(const fabric::Mesh& mesh) : mesh_(mesh) {
  for (Device device : mesh.devices())
    lanes_.emplace_back().done = cuda::create_event(device.index, false);
}

CapturedUnits::~CapturedUnits() {
  for (Lane& lane : lanes_) cuda::destroy_event(lane.done);
}

bool CapturedUnits::begin(const Unit& unit, std::span<const Stream> streams) {
  bool adjacent = true;
  for (size_t d = 0; d < streams.size(); ++d) {
    const Stream stream = streams[d];
    Lane& lane = lanes_[d];
    Nodes before;
    const bool joined = cuda::capture_id(stream) != 0;
    if (!joined) lane.ends.clear();  // the first unit of a capture
    bool known = !joined || cuda::capture_dependencies(stream, before);
    for (int r = 0; r < unit.ranks(); ++r)
      if (mesh_.device_number(r) == static_cast<int>(d))
        cuda::wait_event(stream, *static_cast<cuda::Event*>(unit.marks[r]));
    lane.capture = cuda::capture_id(stream);
    known = cuda::capture_dependencies(stream, lane.begun) && known;
    adjacent &= joined && known;
    if (!joined || !known) continue;
    const size_t all = lane.begun.size();
    std::erase_if(lane.begun, [&](cudaGraphNode_t node) {
      return lane.ends.contains(node) && !contains(before, node);
    });
    if (lane.begun.size() != all) cuda::set_capture_dependencies(stream, lane.begun);
    adjacent &= lane.begun.size() == before.size();  // none of those goes
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
  cuda::wait_event(stream, *lane.done);
  Nodes nodes;
  if (!cuda::capture_dependencies(stream, nodes)) return;
  const size_t all = nodes.size();
  std::erase_if(nodes, [&](cudaGraphNode_t node) {
    return lane.ends.contains(node) && !contains(lane.tail, node);
  });
  if (nodes.size() != all) cuda::set_capture_dependencies(stream, nodes);
}

}  // namespace vt::collectives::gpu
