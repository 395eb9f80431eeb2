// The units of a communicator that are being captured in a graph: which of them the ranks' streams
// have to wait for.
#pragma once
#include <span>
#include <unordered_map>
#include <vector>

#include "collectives/collective.h"
#include "device/cuda/event.h"

namespace vt::collectives::gpu {

// Note [Edges between captured units]
// A caller's stream waits for the units of all ranks of its device, and the next unit of each rank
// waits for the caller's stream. Taken at its word, every kernel of a unit would wait for all of
// the unit before, and where ranks share a device their kernels would run in step for no reason: a
// rank waits for the others inside its kernel. So a unit's wait for earlier units of other ranks is
// left out where the caller has queued nothing since and no memory passes from one rank to another.
class CapturedUnits {
 public:
  explicit CapturedUnits(const fabric::Mesh& mesh);
  ~CapturedUnits();
  CapturedUnits(const CapturedUnits&) = delete;
  CapturedUnits& operator=(const CapturedUnits&) = delete;

  // Each rank's stream joins the capture that the rank's mark is of.
  void begin(const Unit& unit, std::span<const Stream> streams);
  void end(std::span<const Stream> streams);
  // Later work on the stream, which is being captured, waits for the rank's units of its capture.
  void join(int rank, Stream stream) const;

 private:
  using Nodes = std::vector<cudaGraphNode_t>;
  struct Rank {
    uint64_t capture = 0;  // the last that it took part in
    cuda::Event* done = nullptr;
    Nodes begun, tail;  // what its stream waited for when the last unit began and ended
  };
  struct Touched {
    int rank;
    Device device;
    const char *begin, *end;
  };

  void wait(int rank, Stream stream, const cuda::Event& mark, bool apart);
  bool apart(const Unit& unit) const;
  void touch(const Unit& unit);

  std::vector<Rank> ranks_;
  std::unordered_map<cudaGraphNode_t, int> unit_ends_;  // the rank of each
  std::vector<Touched> touched_;                        // since the capture began
  bool crowded_ = false;                                // too much to keep
};

}  // namespace vt::collectives::gpu
