// The streams on which a communicator's units run: those of the caller, or one a device, of high
// priority, ordered with the streams of the callers by events.
#pragma once
#include <memory>
#include <vector>

#include "collectives/cuda/captured_units.h"
#include "collectives/engine.h"
#include "device/capture.h"
#include "device/cuda/event.h"
#include "device/cuda/stream.h"

namespace vt::collectives::gpu {

// Note [One kernel a device]
// A unit is one kernel on every device, for all ranks there: a row of its grid for each. All its
// blocks are resident together (Site::most_blocks), so a block waits only for blocks that run
// beside it and for the unit's kernels on other devices. Those come: look at the units in the order
// in which they were queued (Note [Launch units]). What was queued on a device before unit u is
// earlier units and work of callers, and neither waits for u or for what came after it. So once all
// that has ended, u's kernels start on every device. This asks nothing of streams but their order:
// a GPU has few hardware queues, and where streams share one, work waits for what was put there
// before it, whatever that is, and that has just been counted in. It does ask for room: work that a
// kernel elsewhere waits for may still have to start beside this one. So a unit that spans several
// devices leaves some multiprocessors of each to others, which is enough for work that asks for
// blocks one by one, and not for a kernel that wants the whole device at once.
//
// An early kernel (Site::launch_early) comes when all blocks of the one before it run, and takes no
// room that they need.

// Note [Communicators take turns]
// Kernels of two communicators may be too large to be on a device together. If each spans several
// devices, one could start here and the other there; and of two that have room for some of their
// blocks only, each would wait for the others. So the units of all communicators follow each other
// on every device, in the order in which they were queued, which is the same everywhere. Replays
// count as units. Those of one graph follow each other in the order in which they were captured, so
// that there is no cycle among them.

// Note [Units in line]
// Where one thread calls for all ranks and its streams are to go on after the unit, the unit runs
// on these streams: nothing has to be marked, waited for and joined. Others run on the
// communicator's own streams, beside what the callers queue later. Units may not overtake each
// other, so one that runs on another stream than the last one waits for that one's end.

// Note [Units in graphs]
// A unit whose callers are being captured becomes part of their graph: it runs on their streams, or
// the communicator's own streams join the capture by the marks, and the callers' streams wait for
// their ends. A replay counts as a unit on the streams that it runs on: it waits for the units
// queued before it and later units wait for it. So the owner of the streams is a guest of the
// graph, which holds its memory, too, and hands before_replay and after_replay on.

// Note [Ends of units]
// The end of a unit is an event that later units wait for on other streams. Units in line mostly
// stay on one stream, where recording it for nothing would be a tenth of what the host does. So on
// a legacy default stream, which is always there and never captured, it is recorded when somebody
// asks for it. It then means work that was queued after the unit, too: whoever waits on another
// stream does so for too long, once. From then on ends are recorded at once.
class DeviceStreams {
 public:
  explicit DeviceStreams(const fabric::Mesh& mesh);
  ~DeviceStreams();  // waits for what is queued
  DeviceStreams(const DeviceStreams&) = delete;
  DeviceStreams& operator=(const DeviceStreams&) = delete;

  // Where the last unit, or the one between begin and end, runs.
  Stream of_device(int number) const { return streams_[number]; }  // in mesh.devices()
  Stream at(int rank) const { return streams_[mesh_.device_number(rank)]; }
  cudaStream_t operator[](int rank) const { return cuda::handle_of(at(rank)); }

  // What the calling thread has queued on the rank's device up to now.
  void* mark(int rank) const;
  static void drop(void* mark) { cuda::destroy_event(static_cast<cuda::Event*>(mark)); }

  // Each device's stream waits for the last unit, and the marks of the ranks there. `owner` runs
  // the unit.
  void begin(const Unit& unit, const std::shared_ptr<ReplayGuest>& owner);
  // Since begin(): does the unit follow the one before it in the streams, or in the graph with
  // nothing in between?
  bool adjacent() const { return adjacent_; }
  // Each waits for the marks of all.
  void begin_together(const Unit& unit, const std::shared_ptr<ReplayGuest>& owner);
  void end();                 // what join() waits for from now on
  void join(int rank) const;  // the calling thread's later work waits for the last unit
  std::unique_ptr<Completion> completion() const;  // of the last unit
  bool drained() const;                            // would synchronize() return at once?
  void synchronize() const;
  void use_own() { streams_ = own_; }  // for what is no unit
  bool capturing() const;              // is the last unit part of a capture that goes on?
  // Are the streams of all devices in one capture, or in none?
  bool one_capture() const;

  // On behalf of the owner.
  void before_replay();
  void after_replay();

 private:
  bool waits_for_others() const { return mesh_.size() > 1; }
  void choose_streams(const Unit& unit);
  bool is_captured(const Unit& unit) const;
  void follow(size_t device, Stream stream) const;
  bool take_turn(size_t device, Stream stream, uint64_t capture) const;
  void wait_for_last(size_t device, Stream stream) const;
  void record_end(size_t device, Stream stream);
  const cuda::Event& end_of_last(size_t device) const;

  fabric::Mesh mesh_;
  // All by device.
  std::vector<Stream> own_, streams_;
  std::vector<Stream> ended_on_;    // the last unit that was not captured, or replay
  std::vector<cuda::Event*> done_;  // its end, unless that is still to be recorded
  mutable std::vector<uint8_t> unrecorded_;
  mutable bool record_at_once_ = false;  // others have waited for ends
  bool captured_ = false;                // the last unit, or the one between begin and end
  bool adjacent_ = false;
  bool replayed_ = false;  // since the last unit
  uint64_t capture_ = 0;   // that the last captured unit is part of
  CapturedUnits units_;    // of the capture that goes on, or was last
};

}  // namespace vt::collectives::gpu
