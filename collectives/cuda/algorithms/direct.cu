// Broadcast and barrier. Every rank reads one slice from the root and writes it to all others, so
// that the root's link carries the data once, not once for each rank.
#include "collectives/cuda/algorithms/direct.h"
#include "collectives/cuda/vector.cuh"
#include "fabric/cuda/signal.cuh"

namespace vt::collectives::gpu::direct {
namespace {

__global__ void __launch_bounds__(kMaxThreads) broadcast(const __grid_constant__ Args args) {
  const Clique& clique = args.clique;
  const int rank = fabric::own_rank(clique), ranks = clique.ranks;
  uint32_t& passed = clique.pads[rank]->barrier_epoch[blockIdx.x].value;
  const uint32_t epoch = passed;
  fabric::count_kernel(clique);
  if (!fabric::meet(clique, epoch + 1, fabric::Phase::kStart)) return;
  if (threadIdx.x == 0) passed = epoch + 2;

  const char* source = static_cast<const char*>(args.in[args.root]);
  const int64_t begin = args.count * rank / ranks, end = args.count * (rank + 1) / ranks;
  const int64_t thread = blockIdx.x * blockDim.x + threadIdx.x,
                step = int64_t{gridDim.x} * blockDim.x;
  const uintptr_t offset = reinterpret_cast<uintptr_t>(source + begin) % 16;
  // The root's own output, where that is not what it sends, is filled like the others.
  const auto is_filled = [&](int p) { return args.out[p] != args.in[args.root]; };
  bool alike = true;
  for (int p = 0; p < ranks; ++p)
    alike &= reinterpret_cast<uintptr_t>(static_cast<char*>(args.out[p]) + begin) % 16 == offset;
  // [begin, head) and [tail, end) byte by byte, 16-byte words in between
  const int64_t head = alike ? min(end, begin + static_cast<int64_t>((16 - offset) % 16)) : end;
  const int64_t tail = head + (end - head) / 16 * 16;
  for (int64_t i = head + thread * 16; i < tail; i += step * 16) {
    const uint4 word = load16(source + i);
    for (int p = 0; p < ranks; ++p)
      if (is_filled(p)) store16(static_cast<char*>(args.out[p]) + i, word);
  }
  const auto copy_bytes = [&](int64_t from, int64_t to) {
    for (int64_t i = from + thread; i < to; i += step) {
      const char byte = load_one(source + i);
      for (int p = 0; p < ranks; ++p)
        if (is_filled(p)) static_cast<char*>(args.out[p])[i] = byte;
    }
  };
  copy_bytes(begin, head);
  copy_bytes(tail, end);

  fabric::meet(clique, epoch + 2, fabric::Phase::kEnd);
}

// Note [A barrier that comes early]
// That kernels before it on its stream have ended, and that this kernel sees what they wrote, is
// all that follow_previous_kernel() promises. What a thread has seen goes on with its next release,
// whoever wrote it, to whoever acquires that: so the store of the flag releases, and nothing before
// it has to. Within one device it need not: there, kernels behind the barrier come after those
// before it by the order of the stream, and see what they wrote.
// A rank has one block here, whose flags and their count are its own. It is counted before the
// kernel ahead has ended, so that no load is left between that end and the store; the barrier ahead
// has counted before it let this one come.
__global__ void __launch_bounds__(kMaxThreads) barrier(const __grid_constant__ BarrierArgs args) {
  const Clique& clique = args.clique;
  const int rank = fabric::own_rank(clique), peer = threadIdx.x;
  fabric::Pad& pad = *clique.pads[rank];
  __shared__ uint32_t before;
  if (threadIdx.x == 0) before = atomicAdd(&pad.meetings.value, 1);
  __syncthreads();
  fabric::follow_previous_kernel();
  const uint32_t epoch = before + 1;
  const bool waits = peer < clique.ranks && peer != rank;
  if (waits) {
    uint32_t* const flag = &clique.pads[peer]->met[rank].value;
    if (args.spread) fabric::release_store(flag, epoch);
    else fabric::relaxed_store(flag, epoch);
  }
  fabric::count_kernel(clique);
  if (waits) fabric::await_flag(clique, &pad.met[peer].value, epoch, fabric::Phase::kStart, peer);
}

}  // namespace

const void* broadcast_kernel() { return reinterpret_cast<const void*>(&broadcast); }
const void* barrier_kernel() { return reinterpret_cast<const void*>(&barrier); }

}  // namespace vt::collectives::gpu::direct
