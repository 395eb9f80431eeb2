// Bandwidth and latency between two GPUs, or within one: copy engine, stores by a kernel, and a
// chain of loads. Times are those of events on the devices.
#include <cuda_runtime_api.h>

#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/event.h"
#include "device/cuda/stream.h"
#include "fabric/speed.h"
#include "fabric/symmetric.h"

namespace vt::fabric::cuda {
namespace {

using vt::cuda::DeviceGuard;
using vt::cuda::handle_of;

constexpr size_t kBytes = 128 << 20;  // a copy: more than the L2 cache holds
constexpr int kRepeats = 16;
constexpr int kThreads = 512;
constexpr uint32_t kLines = 16384;  // 2 MiB of lines of 128 B
constexpr uint32_t kHops = 2 * kLines;

struct alignas(128) Line {
  uint32_t next;
};

// What is in the slot of each of the two.
struct Arena {
  char source[kBytes];
  char target[kBytes];  // written by the other side
  Line chain[kLines];   // read by the other side
  uint32_t end;         // of the walk that this device made
};

// Four loads of 16 bytes are on their way before the first store.
__global__ void __launch_bounds__(kThreads)
    store_all(const uint4* source, uint4* target, size_t count) {
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  const size_t first = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (size_t i = first; i < count; i += 4 * stride) {
    uint4 values[4];
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (i + k * stride < count) values[k] = __ldcs(source + i + k * stride);
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (i + k * stride < count) target[i + k * stride] = values[k];
  }
}

// Past the L1 cache, as loads that watch a peer's flags are.
__global__ void walk(const Line* chain, uint32_t hops, uint32_t* end) {
  uint32_t at = 0;
  for (uint32_t i = 0; i < hops; ++i)
    asm volatile("ld.relaxed.sys.global.u32 %0, [%1];"
                 : "=r"(at)
                 : "l"(&chain[at].next)
                 : "memory");
  *end = at;
}

class Bench {
 public:
  Bench(int from, int to)
      : mesh_({vt::cuda::device_at(from), vt::cuda::device_at(to)}),
        memory_(SymmetricMemory::create(mesh_, sizeof(Arena), Backing::kDirect)) {
    for (int r = 0; r < 2; ++r) {
      streams_[r] = vt::cuda::create_stream(index(r), 0);
      DeviceGuard guard(index(r));
      // Not zeros, which memory may compress.
      VT_CUDA(cudaMemsetAsync(arena(r)->source, 0x5a, kBytes, handle_of(streams_[r])));
      vt::cuda::synchronize_stream(streams_[r]);
    }
    for (auto*& event : marks_) event = vt::cuda::create_event(index(0), true);
    done_ = vt::cuda::create_event(index(1), false);
  }
  ~Bench() {
    for (Stream stream : streams_) {
      DeviceGuard guard(stream.device.index);
      (void)cudaStreamSynchronize(handle_of(stream));
      vt::cuda::destroy_stream(stream);
    }
    for (auto* event : marks_) vt::cuda::destroy_event(event);
    vt::cuda::destroy_event(done_);
  }

  PairSpeed run() {
    PairSpeed speed;
    const double bytes = static_cast<double>(kBytes) * kRepeats;
    speed.copy = bytes / best([&] { repeat([&] { copy(0); }); });
    speed.copy_both = 2 * bytes / best([&] {
                        vt::cuda::wait_event(streams_[1], *marks_[0]);
                        repeat([&] { copy(1); });
                        vt::cuda::record_event(*done_, streams_[1]);
                        repeat([&] { copy(0); });
                        vt::cuda::wait_event(streams_[0], *done_);
                      });
    speed.store = bytes / best([&] { repeat([&] { store(0); }); });
    speed.store_both = 2 * bytes / best([&] {
                         vt::cuda::wait_event(streams_[1], *marks_[0]);
                         repeat([&] { store(1); });
                         vt::cuda::record_event(*done_, streams_[1]);
                         repeat([&] { store(0); });
                         vt::cuda::wait_event(streams_[0], *done_);
                       });
    link_chain();
    speed.latency = best([&] { chase(); }) / kHops;
    return speed;
  }

 private:
  int index(int rank) const { return mesh_.device(rank).index; }
  Arena* arena(int rank) const { return static_cast<Arena*>(memory_->slot(rank)); }

  template <class Work>
  static void repeat(const Work& work) {
    for (int i = 0; i < kRepeats; ++i) work();
  }

  // Seconds between two marks on the stream of `from` around the work: the best of three runs,
  // after one that warms up.
  template <class Work>
  double best(const Work& work) {
    double result = 0;
    for (int run = 0; run < 4; ++run) {
      vt::cuda::record_event(*marks_[0], streams_[0]);
      work();
      vt::cuda::record_event(*marks_[1], streams_[0]);
      vt::cuda::synchronize_stream(streams_[0]);
      const double passed = vt::cuda::elapsed_ms(*marks_[0], *marks_[1]) * 1e-3;
      if (run == 1 || (run > 1 && passed < result)) result = passed;
    }
    return result;
  }

  void copy(int rank) {  // pushed, from the rank to the other one
    DeviceGuard guard(index(rank));
    VT_CUDA(cudaMemcpyAsync(arena(1 - rank)->target, arena(rank)->source, kBytes,
                            cudaMemcpyDeviceToDevice, handle_of(streams_[rank])));
  }

  void store(int rank) {  // by a kernel of the rank, into the other one
    DeviceGuard guard(index(rank));
    store_all<<<vt::cuda::multiprocessors(index(rank)), kThreads, 0, handle_of(streams_[rank])>>>(
        reinterpret_cast<const uint4*>(arena(rank)->source),
        reinterpret_cast<uint4*>(arena(1 - rank)->target), kBytes / sizeof(uint4));
    VT_CUDA(cudaGetLastError());
  }

  void link_chain() {
    const auto cycle = random_cycle(kLines);
    std::vector<Line> chain(kLines);
    for (uint32_t i = 0; i < kLines; ++i) chain[i].next = cycle[i];
    DeviceGuard guard(index(1));
    VT_CUDA(cudaMemcpyAsync(arena(1)->chain, chain.data(), sizeof(Arena::chain),
                            cudaMemcpyHostToDevice, handle_of(streams_[1])));
    vt::cuda::synchronize_stream(streams_[1]);
  }

  void chase() {
    DeviceGuard guard(index(0));
    walk<<<1, 1, 0, handle_of(streams_[0])>>>(arena(1)->chain, kHops, &arena(0)->end);
    VT_CUDA(cudaGetLastError());
  }

  Mesh mesh_;
  std::shared_ptr<SymmetricMemory> memory_;
  Stream streams_[2];
  vt::cuda::Event* marks_[2] = {};
  vt::cuda::Event* done_ = nullptr;
};

}  // namespace

PairSpeed measure_pair(int from, int to) { return Bench(from, to).run(); }

}  // namespace vt::fabric::cuda
