// The streams on which a communicator's units run: one a rank, of high priority, ordered with the
// streams of the callers by events.
#pragma once
#include <memory>
#include <vector>

#include "collectives/cuda/captured_units.h"
#include "collectives/engine.h"
#include "device/capture.h"
#include "device/cuda/event.h"
#include "device/cuda/stream.h"

namespace vt::collectives::gpu {

// Note [Units in graphs]
// A unit whose callers are being captured becomes part of their graph: the ranks' streams join the
// capture by the marks, and the callers' streams wait for their ends. Replays run these kernels
// without the ranks' streams, and kernels of one communicator may not overtake each other, so a
// replay waits for the units queued before it and later units wait for the replay: the owner of the
// streams is a guest of the graph, which holds its memory, too, and hands before_replay and
// after_replay on.
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

  // Each rank's stream waits for the rank's mark. `owner` runs the unit.
  void begin(const Unit& unit, const std::shared_ptr<ReplayGuest>& owner);
  // Each waits for the marks of all.
  void begin_together(const Unit& unit, const std::shared_ptr<ReplayGuest>& owner);
  void end();                 // what join() waits for from now on
  void join(int rank) const;  // the calling thread's later work waits for the last unit
  std::unique_ptr<Completion> completion() const;  // of the last unit
  bool drained() const;                            // would synchronize() return at once?
  void synchronize() const;
  bool capturing() const;  // is the last unit part of a capture that goes on?

  // On behalf of the owner.
  void before_replay();
  void after_replay();

 private:
  enum class Last { kNothing, kUnit, kReplay };

  void follow_replay();

  fabric::Mesh mesh_;
  std::vector<Stream> streams_;         // by rank
  std::vector<cuda::Event*> done_;      // by rank: the end of the last unit
  bool captured_ = false;               // the unit between begin and end
  CapturedUnits units_;                 // of the capture that goes on, or was last
  Last last_ = Last::kNothing;          // queued on the devices
  std::vector<Stream> replayed_on_;     // by device
  std::vector<cuda::Event*> replayed_;  // by device: the end of the last replay
};

}  // namespace vt::collectives::gpu
