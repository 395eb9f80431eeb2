// The streams on which a communicator's units run: one a rank, of high priority, ordered with the
// streams of the callers by events.
#pragma once
#include <memory>
#include <vector>

#include "collectives/engine.h"
#include "device/cuda/event.h"
#include "device/cuda/stream.h"

namespace vt::collectives::gpu {

class RankStreams {
 public:
  explicit RankStreams(const fabric::Mesh& mesh);
  ~RankStreams();  // waits for what is queued
  RankStreams(const RankStreams&) = delete;
  RankStreams& operator=(const RankStreams&) = delete;

  Stream at(int rank) const { return streams_[rank]; }
  cudaStream_t operator[](int rank) const { return cuda::handle_of(streams_[rank]); }

  // What the calling thread has queued on the rank's device up to now.
  void* mark(int rank) const;
  static void drop(void* mark) { cuda::destroy_event(static_cast<cuda::Event*>(mark)); }

  void begin(const Unit& unit);           // each rank's stream waits for the rank's mark
  void begin_together(const Unit& unit);  // each waits for the marks of all
  void end();                             // what join() waits for from now on
  void join(int rank) const;              // the calling thread's later work waits for the last unit
  std::unique_ptr<Completion> completion() const;  // of the last unit
  void synchronize() const;

 private:
  fabric::Mesh mesh_;
  std::vector<Stream> streams_;     // by rank
  std::vector<cuda::Event*> done_;  // by rank: the end of the last unit
};

}  // namespace vt::collectives::gpu
