// The signal pad: where the blocks that work for a rank and those of its peers tell each other how
// far they are. One a rank, in symmetric memory, all zeros at the start. Layout only; signal.cuh
// has the protocol.
#pragma once
#include <cstdint>

#include "fabric/mesh.h"

namespace vt::fabric {

inline constexpr int kMaxBlocks = 128;  // of one rank in a kernel

// A line of its own: a poll must not share it with somebody else's store.
struct alignas(128) Flag {
  uint32_t value;
};

// What is written by a peer p has its place in [p]; what only the rank's own block b reads and
// writes is in [b].
struct Pad {
  Flag arrived[kMaxBlocks][kMaxCudaRanks];   // barriers that block b of peer p has come to
  Flag landed[kMaxBlocks][kMaxCudaRanks];    // chunks that block b of peer p has delivered here
  Flag handed[kMaxBlocks][kMaxCudaRanks];    // tiles that block b of a neighbour has handed over
  Flag consumed[kMaxBlocks][kMaxCudaRanks];  // tiles of ours that block b of a neighbour has used
  Flag met[kMaxCudaRanks];                   // barriers between kernels that peer p has come to
  Flag meetings;                             // the same of this rank
  Flag barrier_epoch[kMaxBlocks];            // barriers that block b has passed
  Flag packet_epoch[kMaxBlocks];             // packet exchanges that block b has done
  Flag chunk_epoch[kMaxBlocks];              // chunks that block b has been through
  Flag ring_epoch[kMaxBlocks];               // tiles that block b has been through
  Flag stopped;                              // not 0: why the rank's waiting blocks leave
  uint32_t units[kMaxBlocks];                // kernels that have begun, in block b
};

// What a block leaves in host memory when a peer does not come; 16 bytes, so that one store writes
// it.
struct alignas(16) FaultRecord {
  uint32_t sequence;    // of the kernel: the same on all ranks in one collective
  uint8_t phase, kind;  // kind: Clique::kind
  uint8_t block, peer;
  uint32_t waited_ms;
  uint32_t present;  // 1 once written
};

enum class Phase : uint16_t { kStart, kEnd, kPacket, kChunk, kSpace };

// Host memory that all kernels of a communicator can see.
struct FaultBoard {
  volatile uint32_t abort;  // not 0: every waiting block leaves at once
  volatile uint32_t any;    // not 0: there are records; every waiting block leaves, too
  alignas(16) FaultRecord records[kMaxCudaRanks][kMaxBlocks];
};

// What a kernel has to know to wait for its peers: a kernel parameter. Nothing in it changes from
// call to call, so that a captured kernel can be replayed.
struct Clique {
  Pad* pads[kMaxCudaRanks];
  FaultBoard* board;
  uint64_t timeout_ns;
  int ranks;
  uint8_t kind;                 // of collective, for the record of a fault
  uint8_t here[kMaxCudaRanks];  // the rank that row y of the grid works for
};

}  // namespace vt::fabric
