// The kernels that move parts; see Note [Ways to send a part].
#include "collectives/cuda/algorithms/parts.cuh"

namespace vt::collectives::gpu::parts {
namespace {

constexpr int64_t kChunk = kThreads * 16 * 4;  // bytes: four words a thread

__global__ void __launch_bounds__(kMaxThreads) direct_moves(const __grid_constant__ Args args) {
  const Clique& clique = args.clique;
  const int rank = fabric::own_rank(clique);
  uint32_t& passed = clique.pads[rank]->barrier_epoch[blockIdx.x].value;
  const uint32_t epoch = passed;
  fabric::count_kernel(clique);
  if (!fabric::meet(clique, epoch + 1, fabric::Phase::kStart)) return;
  if (threadIdx.x == 0) passed = epoch + 2;
  for (int64_t at = blockIdx.x * kChunk; at < args.bytes; at += gridDim.x * kChunk)
    for (int k = 1; k <= clique.ranks; ++k) {  // each starts with another; its own part comes last
      const int receiver = next_rank(clique, k);
      if (const char* const from = source(args, rank, receiver))
        copy_chunk(target(args, rank, receiver) + at, from + at, min(kChunk, args.bytes - at));
    }
  fabric::meet(clique, epoch + 2, fabric::Phase::kEnd);
}

__global__ void __launch_bounds__(kMaxThreads) scratch_moves(const __grid_constant__ Args args) {
  const int rank = fabric::own_rank(args.clique);
  pass_through_scratch(args, [&](int64_t round, Piece piece) {
    for (int k = 1; k < args.clique.ranks; ++k) {
      const int sender = next_rank(args.clique, k);
      if (source(args, sender, rank))
        copy_chunk(target(args, sender, rank) + piece.at, place(args, rank, sender, round),
                   piece.bytes);
    }
    if (const char* const own = source(args, rank, rank))
      copy_chunk(target(args, rank, rank) + piece.at, own + piece.at, piece.bytes);
  });
}

template <int kLanes>
__global__ void __launch_bounds__(kMaxThreads) packet_moves(const __grid_constant__ Args args) {
  const int rank = fabric::own_rank(args.clique);
  const uint32_t senders = args.senders[rank];
  const char* const own = source(args, rank, rank);
  exchange_packets<uint8_t, kLanes>(args, senders, [&](const auto& data, int64_t i, int64_t count) {
#pragma unroll
    for (int p = 0; p < kLanes; ++p)
      if (senders >> p & 1 && p != rank)
        store_word<uint64_t, uint8_t>(target(args, p, rank), i, count, data[p]);
    if (own)
      store_word<uint64_t, uint8_t>(target(args, rank, rank), i, count,
                                    load_word<uint64_t, uint8_t>(own, i, count));
  });
}

template <int kLanes>
__global__ void __launch_bounds__(kMaxThreads) line_moves(const __grid_constant__ Args args) {
  const int rank = fabric::own_rank(args.clique);
  const uint32_t senders = args.senders[rank];
  const char* const own = source(args, rank, rank);
  exchange_lines<uint8_t, kLanes>(
      args, senders, [&](const auto& a, const auto& b, int64_t at, int64_t count, bool last) {
#pragma unroll
        for (int p = 0; p < kLanes; ++p)
          if (senders >> p & 1 && p != rank) {
            char* const to = target(args, p, rank);
            store_word<uint64_t, uint8_t>(to, at, count, a[p]);
            if (!last) store_word<uint64_t, uint8_t>(to, at + 1, count, b[p]);
          }
        if (!own) return;
        for (int64_t i = at; i < at + (last ? 1 : 2); ++i)
          store_word<uint64_t, uint8_t>(target(args, rank, rank), i, count,
                                        load_word<uint64_t, uint8_t>(own, i, count));
      });
}

}  // namespace

const void* move_kernel() { return reinterpret_cast<const void*>(&direct_moves); }
const void* move_by_scratch_kernel() { return reinterpret_cast<const void*>(&scratch_moves); }
const void* move_by_packets_kernel(int ranks) {
  return ranks <= 2   ? reinterpret_cast<const void*>(&packet_moves<2>)
         : ranks <= 4 ? reinterpret_cast<const void*>(&packet_moves<4>)
                      : reinterpret_cast<const void*>(&packet_moves<8>);
}

const void* move_by_lines_kernel(int ranks) {
  return ranks <= 2   ? reinterpret_cast<const void*>(&line_moves<2>)
         : ranks <= 4 ? reinterpret_cast<const void*>(&line_moves<4>)
                      : reinterpret_cast<const void*>(&line_moves<8>);
}

}  // namespace vt::collectives::gpu::parts
