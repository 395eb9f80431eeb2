// The kernels that reduce parts: each rank gets one part from all and reduces it in the order of
// the ranks; see Note [Ways to send a part].
#pragma once
#include "collectives/cuda/algorithms/choose.cuh"
#include "collectives/cuda/algorithms/parts.cuh"

namespace vt::collectives::gpu::parts {

// Where what `rank` reduces begins in the input of rank p.
template <class T>
__device__ inline const T* own_part(const ReduceArgs& args, int p, int rank) {
  return reinterpret_cast<const T*>(args.parts.in[p] + rank * args.parts.in_step);
}

// One 16-byte word of elements to where a word may not begin.
template <class T>
__device__ inline void store_elements(T* to, uint4 word) {
  const uint32_t parts[4] = {word.x, word.y, word.z, word.w};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if constexpr (sizeof(T) == 8) {
      if (k % 2 == 0) {
        const uint64_t both = parts[k] | static_cast<uint64_t>(parts[k + 1]) << 32;
        memcpy(to + k / 2, &both, 8);
      }
    } else {
      constexpr int kEach = 4 / static_cast<int>(sizeof(T));
#pragma unroll
      for (int e = 0; e < kEach; ++e) {
        const uint32_t bits = parts[k] >> (e * 8 * static_cast<int>(sizeof(T)));
        memcpy(to + k * kEach + e, &bits, sizeof(T));
      }
    }
  }
}

// By all threads of a block: out[i] = op over p of in(p)[i] for i in [0, count). kLanes is the
// number of ranks rounded up to 2, 4 or 8: that many loads a word are in flight together.
template <class T, class Op, int kLanes, class In>
__device__ inline void reduce_chunk(const In& in, T* out, int64_t count, int ranks, bool average) {
  constexpr int kElements = 16 / static_cast<int>(sizeof(T)), kUnroll = 8 / kLanes;
  const auto offset = [](const void* p) {
    return static_cast<int>(reinterpret_cast<uintptr_t>(p) % 16);
  };
  const int first = offset(in(0));
  bool alike = first % sizeof(T) == 0;
  for (int p = 1; p < ranks; ++p) alike &= offset(in(p)) == first;
  const int64_t head =
      alike ? min(count, static_cast<int64_t>((16 - first) % 16 / sizeof(T))) : count;
  const int64_t words = (count - head) / kElements;
  const bool whole = offset(out + head) == 0;
  const int step = static_cast<int>(blockDim.x);
  for (int64_t i = threadIdx.x; i < words; i += step * kUnroll) {
    uint4 word[kUnroll][kLanes];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
#pragma unroll
      for (int p = 0; p < kLanes; ++p)
        if (p < ranks && i + u * step < words)
          word[u][p] = load16(in(p) + head + (i + u * step) * kElements);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (i + u * step >= words) break;
      Lanes<T, Op, 16> sum;
      sum.set(word[u][0]);
#pragma unroll
      for (int p = 1; p < kLanes; ++p)
        if (p < ranks) sum.combine(word[u][p]);
      const uint4 result = sum.template get<uint4>(average, ranks);
      T* const at = out + head + (i + u * step) * kElements;
      if (whole) store16(at, result);
      else store_elements(at, result);
    }
  }
  const auto one_by_one = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin + threadIdx.x; i < end; i += step) {
      Lanes<T, Op, sizeof(T)> sum;
      sum.set(load_one(in(0) + i));
      for (int p = 1; p < ranks; ++p) sum.combine(load_one(in(p) + i));
      out[i] = sum.template get<T>(average, ranks);
    }
  };
  one_by_one(0, head);
  one_by_one(head + words * kElements, count);
}

template <class T, class Op, int kLanes>
__global__ void __launch_bounds__(kMaxThreads)
    direct_reduction(const __grid_constant__ ReduceArgs args) {
  const Clique& clique = args.parts.clique;
  const int rank = fabric::own_rank(clique);
  uint32_t& passed = clique.pads[rank]->barrier_epoch[blockIdx.x].value;
  const uint32_t epoch = passed;
  fabric::count_kernel(clique);
  if (!fabric::meet(clique, epoch + 1, fabric::Phase::kStart)) return;
  if (threadIdx.x == 0) passed = epoch + 2;
  constexpr int kEach = 16 / static_cast<int>(sizeof(T)) * (8 / kLanes);  // elements of a thread
  const int64_t chunk = int64_t{blockDim.x} * kEach;
  const int64_t count = args.counts[rank];
  for (int64_t at = blockIdx.x * chunk; at < count; at += gridDim.x * chunk) {
    const auto in = [&args, at, rank](int p) { return own_part<T>(args, p, rank) + at; };
    reduce_chunk<T, Op, kLanes>(in, reinterpret_cast<T*>(args.parts.out[rank]) + at,
                                min(chunk, count - at), clique.ranks, args.average);
  }
  fabric::meet(clique, epoch + 2, fabric::Phase::kEnd);
}

template <class T, class Op, int kLanes>
__global__ void __launch_bounds__(kMaxThreads)
    scratch_reduction(const __grid_constant__ ReduceArgs args) {
  const int rank = fabric::own_rank(args.parts.clique);
  char* const out = args.parts.out[rank];
  pass_through_scratch(args.parts, [&](int64_t round, Piece piece) {
    if (!out) return;
    const char* const own = reinterpret_cast<const char*>(own_part<T>(args, rank, rank)) + piece.at;
    const char* const first = place(args.parts, rank, 0, round);
    const int64_t step = gridDim.x * args.parts.piece;  // from one rank's place to the next
    const auto in = [own, first, step, rank](int p) {
      return reinterpret_cast<const T*>(p == rank ? own : first + p * step);
    };
    reduce_chunk<T, Op, kLanes>(in, reinterpret_cast<T*>(out + piece.at),
                                piece.bytes / static_cast<int64_t>(sizeof(T)),
                                args.parts.clique.ranks, args.average);
  });
}

template <class T, class Op, int kLanes>
__global__ void __launch_bounds__(kMaxThreads)
    packet_reduction(const __grid_constant__ ReduceArgs args) {
  const int rank = fabric::own_rank(args.parts.clique), ranks = args.parts.clique.ranks;
  const T* const part = own_part<T>(args, rank, rank);
  char* const out = args.parts.out[rank];
  const uint32_t senders = out ? ~0u : 0u;
  exchange_packets<T, kLanes>(args.parts, senders, [&](const auto& data, int64_t i, int64_t count) {
    if (!out) return;
    const uint64_t own = load_word<uint64_t, T>(part, i, count);
    Lanes<T, Op, packets::kPacketBytes> sum;
    sum.set(rank == 0 ? own : data[0]);
#pragma unroll
    for (int p = 1; p < kLanes; ++p)
      if (p < ranks) sum.combine(p == rank ? own : data[p]);
    store_word<uint64_t, T>(out, i, count, sum.template get<uint64_t>(args.average, ranks));
  });
}

template <class T, class Op, int kLanes>
__global__ void __launch_bounds__(kMaxThreads)
    line_reduction(const __grid_constant__ ReduceArgs args) {
  const int rank = fabric::own_rank(args.parts.clique), ranks = args.parts.clique.ranks;
  const T* const part = own_part<T>(args, rank, rank);
  char* const out = args.parts.out[rank];
  const auto reduce_word = [&](const auto& data, int64_t at, int64_t count) {
    const uint64_t own = load_word<uint64_t, T>(part, at, count);
    Lanes<T, Op, 8> sum;
    sum.set(rank == 0 ? own : data[0]);
#pragma unroll
    for (int p = 1; p < kLanes; ++p)
      if (p < ranks) sum.combine(p == rank ? own : data[p]);
    store_word<uint64_t, T>(out, at, count, sum.template get<uint64_t>(args.average, ranks));
  };
  exchange_lines<T, kLanes>(
      args.parts, out ? ~0u : 0u,
      [&](const auto& a, const auto& b, int64_t at, int64_t count, bool last) {
        if (!out) return;
        reduce_word(a, at, count);
        if (!last) reduce_word(b, at + 1, count);
      });
}

}  // namespace vt::collectives::gpu::parts
