// What kernels that send parts have in common: the places of pieces in scratch memory, and of
// packets in mailboxes.
#pragma once
#include "collectives/cuda/algorithms/copy_chunk.cuh"
#include "collectives/cuda/algorithms/line.cuh"
#include "collectives/cuda/algorithms/packet.cuh"
#include "collectives/cuda/algorithms/parts.h"

namespace vt::collectives::gpu::parts {

__device__ inline int next_rank(const Clique& clique, int k) {
  const int rank = fabric::own_rank(clique) + k;
  return rank < clique.ranks ? rank : rank - clique.ranks;
}

// The part that `sender` has for `receiver`, null if it sends none, and where it goes directly.
__device__ inline const char* source(const Args& args, int sender, int receiver) {
  if (!(args.receivers[sender] >> receiver & 1)) return nullptr;
  return args.in[sender] + receiver * args.in_step;
}
__device__ inline char* target(const Args& args, int sender, int receiver) {
  return args.out[receiver] + sender * args.out_step;
}

// The bytes of every part that this block moves in a round.
struct Piece {
  int64_t at, bytes;
};
__device__ inline Piece piece_of(const Args& args, int64_t round) {
  const int64_t at = (round * gridDim.x + blockIdx.x) * args.piece;
  return {at, max(int64_t{0}, min(args.piece, args.bytes - at))};
}
__device__ inline int64_t rounds_of(const Args& args) {
  const int64_t round = int64_t{gridDim.x} * args.piece;
  return (args.bytes + round - 1) / round;
}

// Where this block of `source` leaves its piece of a round for `receiver`.
__device__ inline char* place(const Args& args, int receiver, int source, int64_t round) {
  const int64_t row = (round & 1) * args.clique.ranks + source;
  return args.scratch[receiver] + (row * gridDim.x + blockIdx.x) * args.piece;
}

// A function of its own: its registers are not needed while pieces are taken.
__noinline__ static __device__ void push_piece(const Args& args, int64_t round) {
  const Piece piece = piece_of(args, round);
  const int rank = fabric::own_rank(args.clique);
  for (int k = 1; k < args.clique.ranks; ++k) {
    const int receiver = next_rank(args.clique, k);
    if (const char* const from = source(args, rank, receiver))
      copy_chunk(place(args, receiver, rank, round), from + piece.at, piece.bytes);
  }
}

// Note [Rounds through scratch memory]
// push(0); then for each round: meet, push the next one into the other half, take this one. Who
// comes to the meeting of round g has taken round g-1, so after it the half of g-1 is free for
// g+1. One more meeting at the end leaves the memory free for whoever comes next.
template <class Take>
__device__ inline void pass_through_scratch(const Args& args, const Take& take) {
  const Clique& clique = args.clique;
  uint32_t& passed = clique.pads[fabric::own_rank(clique)]->barrier_epoch[blockIdx.x].value;
  const uint32_t epoch = passed;
  const int64_t rounds = rounds_of(args);
  fabric::count_kernel(clique);
  push_piece(args, 0);
  for (int64_t g = 0; g < rounds; ++g) {
    if (!fabric::meet(clique, epoch + 1 + static_cast<uint32_t>(g), fabric::Phase::kChunk)) return;
    if (g + 1 < rounds) push_piece(args, g + 1);
    take(g, piece_of(args, g));
  }
  const uint32_t last = epoch + 1 + static_cast<uint32_t>(rounds);
  if (!fabric::meet(clique, last, fabric::Phase::kEnd)) return;
  if (threadIdx.x == 0) passed = last;
}

// Note [Tokens]
// The halves of a mailbox are free by turns only if every rank hears from every other in each
// exchange (Note [Packet mailboxes]). Who has nothing to send sends the first packet empty.

// The packets from all ranks that this thread waits for; `wanted` is a mask of ranks, kLanes their
// number rounded up.
template <int kLanes>
__device__ inline bool receive_some(const Clique& clique, const packets::Packet* from, int64_t step,
                                    uint32_t epoch, uint32_t wanted, uint64_t (&data)[kLanes]) {
  fabric::Deadline deadline(clique, fabric::Phase::kPacket, 0);
  while (wanted) {
    uint64_t low[kLanes], high[kLanes];
#pragma unroll
    for (int p = 0; p < kLanes; ++p)
      if (wanted >> p & 1) packets::load(from + p * step, low[p], high[p]);
#pragma unroll
    for (int p = 0; p < kLanes; ++p)
      if (wanted >> p & 1 && packets::complete(low[p], high[p], epoch)) {
        data[p] = (low[p] & 0xffffffffu) | (high[p] << 32);
        wanted &= ~(1u << p);
      }
    if (wanted && deadline.passed(__ffs(static_cast<int>(wanted)) - 1)) return false;
  }
  return true;
}

// Sends the block's packets of every part, and waits for those of the ranks in `senders`. Calls
// take(data, i, count) with the i-th packets of all of them; T is the type of the elements, count
// how many a part has.
template <class T, int kLanes, class Take>
__device__ inline void exchange_packets(const Args& args, uint32_t senders, const Take& take) {
  constexpr int kElements = packets::kPacketBytes / sizeof(T);
  const Clique& clique = args.clique;
  const int rank = fabric::own_rank(clique), ranks = clique.ranks;
  fabric::follow_previous_kernel();
  fabric::count_kernel(clique);
  uint32_t& done = args.mailboxes[rank]->epoch[blockIdx.x].value;
  const uint32_t epoch = done + 1;
  const int64_t count = args.bytes / static_cast<int64_t>(sizeof(T));
  const int64_t first = int64_t{blockIdx.x} * args.packets;
  const int mine =
      static_cast<int>(min(int64_t{args.packets}, (count + kElements - 1) / kElements - first));
  const int room = packet_room(ranks);
  const int64_t row = int64_t{kPacketBlocks} * room;  // from one sender to the next
  const int64_t half = (epoch & 1) * ranks * row + blockIdx.x * room;

  for (int i = threadIdx.x; i < mine; i += blockDim.x)
    for (int k = 1; k < ranks; ++k) {
      const int receiver = next_rank(clique, k);
      const char* const from = source(args, rank, receiver);
      if (!from && i != 0) continue;
      const uint64_t data = from ? load_word<uint64_t, T>(from, first + i, count) : uint64_t{0};
      packets::send(args.mailboxes[receiver]->packets<packets::Packet>() + half + rank * row + i,
                    data, epoch);
    }
  __syncthreads();  // all have read it
  if (threadIdx.x == 0) done = epoch;
  const uint32_t others = ((1u << ranks) - 1) & ~(1u << rank);
  bool here = true;
  for (int i = threadIdx.x; i < mine && here; i += blockDim.x) {
    uint64_t data[kLanes];
    here = receive_some<kLanes>(clique, args.mailboxes[rank]->packets<packets::Packet>() + half + i,
                                row, epoch, i == 0 ? others : senders & others, data);
    if (here) take(data, first + i, count);
  }
}

// The same by lines. take(a, b, at, count, last) gets two words of each rank and the number of the
// first one; the second is a flag, and no data, where `last`.
template <class T, int kLanes, class Take>
__device__ inline void exchange_lines(const Args& args, uint32_t senders, const Take& take) {
  constexpr uint32_t kAll = 0xffffffffu;
  constexpr int kWords = lines::kLineBytes / 8, kLinesPerWarp = 4;
  const Clique& clique = args.clique;
  const int rank = fabric::own_rank(clique), ranks = clique.ranks;
  fabric::follow_previous_kernel();
  fabric::count_kernel(clique);
  uint32_t& done = args.mailboxes[rank]->epoch[blockIdx.x].value;
  const uint32_t epoch = done + 1;
  const int64_t count = args.bytes / static_cast<int64_t>(sizeof(T));
  const int64_t first = int64_t{blockIdx.x} * args.packets;
  const int mine = static_cast<int>(
      min(int64_t{args.packets}, (args.bytes + lines::kLineBytes - 1) / lines::kLineBytes - first));
  const int room = line_room(ranks);
  const int64_t row = int64_t{kPacketBlocks} * room;  // from one sender to the next
  const int64_t half = (epoch & 1) * ranks * row + blockIdx.x * room;
  const int lane = threadIdx.x % 32, word = lane % 8 * 2;  // of the line
  const bool last = word + 1 == kWords;
  const int start = static_cast<int>(threadIdx.x) / 32 * kLinesPerWarp,
            step = static_cast<int>(blockDim.x) / 32 * kLinesPerWarp;

  for (int base = start; base < mine; base += step) {
    const int line = base + lane / 8;
    const int64_t at = (first + line) * kWords + word;
    for (int k = 1; k < ranks; ++k) {
      const int receiver = next_rank(clique, k);
      const char* const from = source(args, rank, receiver);
      const uint64_t a = from ? load_word<uint64_t, T>(from, at, count) : 0;
      const uint64_t b = last ? epoch : from ? load_word<uint64_t, T>(from, at + 1, count) : 0;
      __syncwarp();  // one instruction for the whole line
      if (line < mine && (from || line == 0)) {
        auto* const box = args.mailboxes[receiver]->packets<lines::Line>();
        lines::send(box[half + rank * row + line].words + word, a, b);
      }
    }
  }
  __syncthreads();  // all have read it
  if (threadIdx.x == 0) done = epoch;

  const uint32_t others = ((1u << ranks) - 1) & ~(1u << rank);
  const auto* const box = args.mailboxes[rank]->packets<lines::Line>() + half;
  bool here = true;  // the same in all threads of a warp
  for (int base = start; base < mine && here; base += step) {
    const int line = base + lane / 8;
    uint64_t a[kLanes], b[kLanes];
    uint32_t missing = line >= mine ? 0 : line == 0 ? others : senders & others;
    fabric::Deadline deadline(clique, fabric::Phase::kPacket, 0);
    while (__any_sync(kAll, missing != 0)) {
#pragma unroll
      for (int p = 0; p < kLanes; ++p)
        if (missing >> p & 1) lines::load(box[p * row + line].words + word, a[p], b[p]);
#pragma unroll
      for (int p = 0; p < kLanes; ++p) {
        const bool arrived = last && missing >> p & 1 && b[p] == epoch;
        if (__ballot_sync(kAll, arrived) >> (lane | 7) & 1) missing &= ~(1u << p);
      }
      const int peer = missing ? __ffs(static_cast<int>(missing)) - 1 : 0;
      here = !__any_sync(kAll, missing != 0 && deadline.passed(peer));
      if (!here) break;
    }
    if (here && line < mine) take(a, b, (first + line) * kWords + word, count, last);
  }
}

}  // namespace vt::collectives::gpu::parts
