// The units of a communicator that are being captured in a graph: which of them the devices'
// streams, and those of the callers, have to wait for.
#pragma once
#include <span>
#include <unordered_set>
#include <vector>

#include "collectives/collective.h"
#include "device/cuda/event.h"

namespace vt::collectives::gpu {

// Note [Edges between captured units]
// Where units have streams of their own, a caller's stream waits for each, and the next unit for
// the caller's stream, which still knows all units before: the n-th would get n edges. As the units
// of a device follow each other anyhow, none but the last is waited for.
class CapturedUnits {
 public:
  explicit CapturedUnits(const fabric::Mesh& mesh);
  ~CapturedUnits();
  CapturedUnits(const CapturedUnits&) = delete;
  CapturedUnits& operator=(const CapturedUnits&) = delete;

  // Each device's stream joins the capture that the marks of the ranks there are of.
  void enter(const Unit& unit, std::span<const Stream> streams) const;
  // Each follows the last unit there. True where all have only that to wait for.
  bool begin(std::span<const Stream> streams);
  void end(std::span<const Stream> streams);
  // Later work on the stream, which is being captured, waits for the device's units of its capture.
  void join(int device, Stream stream) const;

 private:
  using Nodes = std::vector<cudaGraphNode_t>;
  struct Lane {
    uint64_t capture = 0;  // the last that it took part in
    Stream stream;         // of the last unit there
    cuda::Event* done = nullptr;
    Nodes begun, tail;  // what the stream waited for when the last unit began and ended
    std::unordered_set<cudaGraphNode_t> ends;  // of units, since the capture began

    bool is_old(cudaGraphNode_t node) const;  // the end of a unit before the last
  };

  fabric::Mesh mesh_;
  std::vector<Lane> lanes_;  // by device
};

}  // namespace vt::collectives::gpu
