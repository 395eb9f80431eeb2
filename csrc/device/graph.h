// A graph of device work: captured once from streams, replayed with one call.
#pragma once
#include <cstdint>
#include <memory>

#include "device/backend.h"
#include "device/capture.h"

namespace vt {

// Made by make_graph. Not for several threads at once. Only kernels, copies and events between
// streams may be captured; what may not (waiting for the device, memory of the host) is refused
// where it is asked for, see check_not_capturing.
class Graph {
 public:
  virtual ~Graph() = default;

  // Captures what is queued on `stream`, and on streams that wait for its events, from now on.
  // Memory comes from the private pool, which the graph keeps alive. The stream may not be the
  // default one.
  virtual void begin(Stream stream, uint64_t pool) = 0;
  // Ends the capture and makes the graph ready for replays. After an error the graph is empty, the
  // stream and the process go on.
  virtual void end() = 0;
  // Ends a capture that failed and drops what it has.
  virtual void abandon() noexcept = 0;
  virtual bool capturing() const = 0;
  virtual bool ready() const = 0;
  // Queues everything on the calling thread's current stream of the device.
  virtual void replay() = 0;
  // Drops the graph; its memory goes back to the pool.
  virtual void reset() = 0;
  virtual size_t node_count() const = 0;
  virtual Device device() const = 0;
  // The numbers that replays take from the host. RuntimeError where nothing was captured.
  virtual Capture& values() = 0;
};

}  // namespace vt
