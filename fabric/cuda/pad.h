// The signal pad: where the blocks of a rank's kernels and those of its peers tell each other how
// far they are. One a rank, in symmetric memory, all zeros at the start. Layout only; signal.cuh
// has the protocol.
#pragma once
#include <cstdint>

#include "fabric/mesh.h"

namespace vt::fabric {

inline constexpr int kMaxBlocks =
    32;  // of one rank's kernel; few enough that 8 ranks fit on one GPU together

// A line of its own: a poll must not share it with somebody else's store.
struct alignas(128) Flag {
  uint32_t value;
};

struct Pad {
  Flag arrived[kMaxBlocks]
              [kMaxCudaRanks];     // epoch that block b of peer p has reached; written by the peer
  Flag barrier_epoch[kMaxBlocks];  // barriers that block b has passed; the rank's own
  Flag packet_epoch[kMaxBlocks];   // packet exchanges that block b has done; the rank's own
};

// What a block leaves in host memory when a peer does not come; 16 bytes, so that one store writes
// it.
struct alignas(16) FaultRecord {
  uint32_t sequence;  // of the unit, modulo 2^32
  uint16_t phase;
  uint8_t block, peer;
  uint32_t waited_ms;
  uint32_t present;  // 1 once written
};

enum class Phase : uint16_t { kStart, kEnd, kPacket };

// Host memory that all kernels of a communicator can see.
struct FaultBoard {
  volatile uint32_t abort;  // not 0: every waiting block leaves at once
  alignas(16) FaultRecord records[kMaxCudaRanks][kMaxBlocks];
};

// What a kernel has to know to wait for its peers: a kernel parameter.
struct Clique {
  Pad* pads[kMaxCudaRanks];
  FaultBoard* board;
  uint64_t timeout_ns;
  uint32_t sequence;
  int rank, ranks;
};

}  // namespace vt::fabric
