// A graph of work of one device or several: captured once from streams, replayed with one call.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "device/backend.h"
#include "device/capture.h"

namespace vt {

// One device's share of a capture: the stream that is captured there, not the default one, and
// where its memory comes from.
struct CaptureLane {
  Stream stream;
  uint64_t pool;
};

// Note [Graphs over several devices]
// A whole graph holds the work of all its devices: the streams of the others are forked from that
// of the first one by an event and joined at the end, so one launch replays everything, and an edge
// may lead from any device to any other. Where the driver is not good at that, there is one graph a
// device, launched one after another; then nothing on one device may wait for an event of another,
// and only kernels that wait for each other by themselves, as those of a collective do, connect
// them. Either way a replay follows what is queued on the calling thread's current streams of all
// devices and precedes what is queued there later.
enum class GraphForm : uint8_t { kWhole, kPerDevice };

// Made by make_graph. Not for several threads at once. Only kernels, copies and events between
// streams may be captured; what may not (waiting for the device, memory of the host) is refused
// where it is asked for, see check_not_capturing.
class Graph {
 public:
  virtual ~Graph() = default;

  // Captures what is queued on the streams, and on streams that wait for their events, from now on:
  // one lane a device, that of device() first. Memory comes from the private pools, which the graph
  // keeps alive.
  virtual void begin(std::span<const CaptureLane> lanes, GraphForm form) = 0;
  // Ends the capture and makes the graph ready for replays. After an error the graph is empty, the
  // stream and the process go on.
  virtual void end() = 0;
  // Ends a capture that failed and drops what it has.
  virtual void abandon() noexcept = 0;
  virtual bool capturing() const = 0;
  virtual bool ready() const = 0;
  // Has what the calling thread queues from now on wait for the replay before, whose inputs it may
  // overwrite. Throws what has gone wrong on the devices with it, FabricTimeoutError for instance.
  virtual void follow() = 0;
  // Queues everything on the calling thread's current streams of the devices.
  virtual void replay() = 0;
  // Drops the graph; its memory goes back to the pool.
  virtual void reset() = 0;
  virtual size_t node_count() const = 0;
  // Keeps what is captured from now on in the driver's editable form, too, for `write_dot`.
  virtual void keep_source() = 0;
  // Writes the nodes and edges as Graphviz reads them: a file, or one a device where there is a
  // graph for each, with "-1" and so on behind the first one's name.
  virtual void write_dot(const std::string& path) const = 0;
  virtual Device device() const = 0;
  virtual std::vector<Device> devices() const = 0;  // of the last capture; device() comes first
  // The numbers that replays take from the host. RuntimeError where nothing was captured.
  virtual Capture& values() = 0;
};

}  // namespace vt
