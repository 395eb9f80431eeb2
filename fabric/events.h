// What the fabric did: a counter for each kind of work, and a ring of the last events. Noting takes
// no lock and allocates nothing; whoever reads pays.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/device.h"

namespace vt::fabric {

enum class EventKind : uint8_t {
  kCollective,  // a unit of a communicator; bytes of one rank
  kCopy,        // bytes from one device to another
  kPeerRead,    // an operator that reads the memory of another device in place
  kFence,       // one stream made to wait for another, for the sake of memory that a peer reads
  kArena,       // symmetric memory taken or given back; bytes of all ranks
  kManaged,     // unified memory taken, given back, advised or moved
  kAccess,      // direct access between two devices switched on or off
};
const char* name(EventKind kind);

inline constexpr size_t kEventRing = 4096;  // how many events are remembered

struct Event {
  uint64_t number;           // from 0, in the order in which they were noted
  int64_t start_ns, end_ns;  // of the host's steady clock; equal for a moment
  EventKind kind;
  Device device;
  uint32_t thread;  // from 0, in order of their first event
  uint64_t bytes;
  const char* what;  // "all_reduce", "add"
  const char* how;   // "two_shot", "direct"; "" where there is only one way
};

struct Counter {
  EventKind kind;
  std::string what, how;
  uint64_t calls, bytes;
};

int64_t event_clock();  // nanoseconds

// Counts, and puts an event into the ring. `what` and `how` must live for ever (literals). An event
// with a start lasted from then until now.
void note(EventKind kind, const char* what, Device device, size_t bytes, const char* how = "",
          int64_t start_ns = 0);

// Sums since the start of the process or the last reset, in order of kind and name.
std::vector<Counter> counters();
// What the ring holds, oldest first; events that are being written at this moment are left out.
std::vector<Event> events();
uint64_t events_noted();  // since the last reset; more than the ring holds are forgotten
void reset_events();      // counters to zero, the ring empty

}  // namespace vt::fabric
