// The host's end of the kernels' deadlines: the memory that they report to, and the sentence that
// comes out of it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "fabric/cuda/pad.h"

namespace vt::collectives::gpu {

// "rank 0 (cuda:0), 2 (cuda:0)" for the ranks of a mask, without the first word.
std::string list_of(const fabric::Mesh& mesh, uint32_t mask);

class FaultMemory {
 public:
  FaultMemory();
  ~FaultMemory();
  FaultMemory(const FaultMemory&) = delete;
  FaultMemory& operator=(const FaultMemory&) = delete;

  fabric::FaultBoard* board() const { return board_; }
  bool any() const { return board_->any != 0; }
  // Who waited for whom, in which unit and for how long; of the unit that failed first. `late`: a
  // mask of ranks that are known to be late, 0 if none is.
  std::string sentence(const fabric::Mesh& mesh, uint32_t late) const;
  void abort() { board_->abort = 1; }
  bool aborted() const { return board_->abort != 0; }
  void clear();

 private:
  fabric::FaultBoard* board_ = nullptr;
};

}  // namespace vt::collectives::gpu
