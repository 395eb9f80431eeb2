// The trial of a pair of GPUs: a pattern by stores, a pattern by the copy engine, and a flag that
// goes there and back.
#include <cuda_runtime_api.h>

#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/unit_lock.h"
#include "fabric/cuda/signal.cuh"
#include "fabric/peer.h"
#include "fabric/symmetric.h"

namespace vt::fabric::cuda {
namespace {

using vt::cuda::DeviceGuard;

constexpr size_t kWords = 256 << 10;  // 1 MiB: enough to cross every boundary of pages and channels
constexpr uint32_t kRounds = 64;
constexpr uint64_t kPatienceNs = 2'000'000'000;

// What is in the slot of each of the two.
struct Arena {
  uint32_t target[kWords];  // written by the other side
  uint32_t source[kWords];
  Flag flag;
  uint32_t wrong;  // counted at the owner
};

__device__ uint32_t pattern(uint32_t i, uint32_t seed) { return (i + seed) * 2654435761u; }

__global__ void write_pattern(uint32_t* at, uint32_t seed) {
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < kWords; i += gridDim.x * blockDim.x)
    at[i] = pattern(i, seed);
}

__global__ void count_wrong(const uint32_t* at, uint32_t seed, uint32_t* wrong) {
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < kWords; i += gridDim.x * blockDim.x)
    if (at[i] != pattern(i, seed)) atomicAdd(wrong, 1u);
}

// One thread on each side: odd and even numbers take turns. The other side's flag counts up with
// it.
__global__ void play(uint32_t* theirs, const uint32_t* mine, bool begins, uint32_t* wrong) {
  const uint64_t start = now_ns();
  for (uint32_t round = 1; round <= kRounds; ++round) {
    if (begins) release_store(theirs, round);
    while (relaxed_load(mine) < round) {
      if (now_ns() - start > kPatienceNs) {
        *wrong = round;
        return;
      }
    }
    system_fence();
    if (!begins) release_store(theirs, round);
  }
}

class Trial {
 public:
  Trial(int from, int to)
      : mesh_({vt::Device{DeviceType::kCUDA, static_cast<uint8_t>(from)},
               vt::Device{DeviceType::kCUDA, static_cast<uint8_t>(to)}}),
        memory_(SymmetricMemory::create(mesh_, sizeof(Arena), Backing::kDirect)) {
    for (int r = 0; r < 2; ++r) {
      DeviceGuard guard(mesh_.device(r).index);
      VT_CUDA(cudaStreamCreateWithFlags(&streams_[r], cudaStreamNonBlocking));
      cudaFuncAttributes loaded{};  // loading a kernel later could wait for the other one, which
                                    // waits for this one
      VT_CUDA(cudaFuncGetAttributes(&loaded, play));
    }
  }
  ~Trial() {
    for (int r = 0; r < 2; ++r)
      if (streams_[r]) (void)cudaStreamDestroy(streams_[r]);
  }

  std::string run() {
    constexpr uint32_t kStores = 17, kCopies = 71;
    {
      DeviceGuard guard(mesh_.device(0).index);
      write_pattern<<<32, 256, 0, streams_[0]>>>(arena(1)->target, kStores);
      VT_CUDA(cudaGetLastError());
      VT_CUDA(cudaStreamSynchronize(streams_[0]));
    }
    if (const uint32_t wrong = count(kStores))
      return str(wrong, " of ", kWords, " words stored by a kernel are wrong");
    {
      DeviceGuard guard(mesh_.device(0).index);
      write_pattern<<<32, 256, 0, streams_[0]>>>(arena(0)->source, kCopies);
      VT_CUDA(cudaGetLastError());
      VT_CUDA(cudaMemcpyAsync(arena(1)->target, arena(0)->source, sizeof(Arena::target),
                              cudaMemcpyDeviceToDevice, streams_[0]));
      VT_CUDA(cudaStreamSynchronize(streams_[0]));
    }
    if (const uint32_t wrong = count(kCopies))
      return str(wrong, " of ", kWords, " words of a copy are wrong");
    std::unique_lock unit(vt::cuda::launch_unit_mutex());
    for (int r = 0; r < 2; ++r) {
      DeviceGuard guard(mesh_.device(r).index);
      play<<<1, 1, 0, streams_[r]>>>(&arena(1 - r)->flag.value, &arena(r)->flag.value, r == 0,
                                     &arena(r)->wrong);
      VT_CUDA(cudaGetLastError());
    }
    unit.unlock();
    for (int r = 0; r < 2; ++r) {
      if (const uint32_t round = wrong(r))
        return str("a flag did not come back to ", mesh_.device(r), " within ",
                   kPatienceNs / 1000000000, " s (round ", round, " of ", kRounds, ")");
    }
    return "";
  }

 private:
  Arena* arena(int rank) const { return static_cast<Arena*>(memory_->slot(rank)); }

  uint32_t wrong(int rank) const {
    DeviceGuard guard(mesh_.device(rank).index);
    uint32_t result = 0;
    VT_CUDA(cudaMemcpyAsync(&result, &arena(rank)->wrong, sizeof(result), cudaMemcpyDeviceToHost,
                            streams_[rank]));
    VT_CUDA(cudaStreamSynchronize(streams_[rank]));
    return result;
  }

  // Read back at the owner.
  uint32_t count(uint32_t seed) const {
    DeviceGuard guard(mesh_.device(1).index);
    count_wrong<<<32, 256, 0, streams_[1]>>>(arena(1)->target, seed, &arena(1)->wrong);
    VT_CUDA(cudaGetLastError());
    return wrong(1);
  }

  Mesh mesh_;
  std::shared_ptr<SymmetricMemory> memory_;
  cudaStream_t streams_[2] = {};
};

}  // namespace

PeerState reported_peer(int from, int to) {
  PeerState state;
  int access = 0, atomics = 0;
  VT_CUDA(cudaDeviceCanAccessPeer(&access, from, to));
  state.reported = access != 0;
  if (state.reported)
    VT_CUDA(cudaDeviceGetP2PAttribute(&atomics, cudaDevP2PAttrNativeAtomicSupported, from, to));
  state.atomics = atomics != 0;
  return state;
}

std::string try_pair(int from, int to) {
  try {
    return Trial(from, to).run();
  } catch (const Error& e) { return e.what(); }
}

}  // namespace vt::fabric::cuda
