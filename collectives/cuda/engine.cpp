// The GPU engine: one kernel a device, each on a high-priority stream of its own, queued as one
// unit. Nothing is allocated and nothing waits for the host on the way. How a kind of unit is
// carried out is up to its algorithms.
#include "collectives/engine.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "collectives/cuda/algorithm.h"
#include "collectives/cuda/late_ranks.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/unit_lock.h"
#include "device/deferred.h"
#include "fabric/peer.h"

namespace vt::collectives {
namespace gpu {
namespace {

const Mesh& with_peers(const Mesh& mesh) {
  fabric::require_peers(mesh);
  return mesh;
}

std::vector<size_t> mailbox_sizes(const Mesh& mesh) {
  std::vector<size_t> bytes;
  for (const AlgorithmEntry& entry : algorithms())
    bytes.push_back(entry.mailbox ? entry.mailbox(mesh) : 0);
  return bytes;
}

void check_kernel(const void* kernel) {
  cudaFuncAttributes attributes{};
  VT_CUDA(cudaFuncGetAttributes(&attributes, kernel));
  VT_CHECK(attributes.maxThreadsPerBlock >= kMaxThreads, kRuntime,
           "communicator: a kernel allows only ", attributes.maxThreadsPerBlock,
           " threads a block");
}

class CudaEngine final : public Engine {
 public:
  CudaEngine(const Mesh& mesh, const Options& options)
      : site_(with_peers(mesh), options, mailbox_sizes(mesh)),
        late_ranks_(mesh, options.timeout_seconds),
        shared_(mesh.max_ranks_on_a_device() > 1),
        patience_(std::chrono::duration_cast<Clock::duration>(
            std::chrono::duration<double>(options.timeout_seconds))) {
    VT_CHECK(site_.most_blocks(kMaxThreads) >= 1, kFabric, "communicator: the ranks of ", mesh,
             " do not fit on their devices together");
    std::lock_guard lock(cuda::launch_unit_mutex());
    for (Device device : mesh.devices()) {
      cuda::DeviceGuard guard(device.index);
      for (const AlgorithmEntry& entry : algorithms()) entry.for_each_kernel(check_kernel);
    }
  }

  void* mark_arrival(int rank) override { return site_.streams().mark(rank); }
  void drop_mark(int, void* mark) override {
    if (!shared_ || !late_ranks_.take(mark)) DeviceStreams::drop(mark);
  }

  bool queues() const override { return true; }
  std::unique_ptr<Completion> completion() override { return site_.streams().completion(); }

  const char* algorithm(const Unit& unit) const override {
    if (site_.ranks() == 1) return kAlone;
    if (is_empty(unit)) return kNothing;
    return name(choose(site_, unit).entry->algorithm).data();
  }
  const char* last_algorithm() const override { return last_; }

  void run(const Unit& unit) override {
    if (unit.in_line) run_deferred();
    if (VT_UNLIKELY(unit.bytes() >= kLargeUnit)) make_room(unit);
    std::lock_guard lock(cuda::launch_unit_mutex());
    site_.begin(unit, shared_from_this());
    if (shared_) late_ranks_.watch(unit);
    try {
      carry_out(unit);
    } catch (...) {  // what has been launched ends
      site_.join_side_streams();
      site_.streams().end();
      throw;
    }
    site_.streams().end();
  }

  void join(int rank) override { site_.streams().join(rank); }

  // Note [Errors come when the devices rest]
  // When a rank has missed its deadline, what is queued may still write into the tensors of the
  // others: a copy, or the kernel of whoever comes too late. So the error is thrown when all that
  // has ended, and who catches it may use the memory for something else. What has not ended by
  // another deadline may never do so: then the error says that the tensors are still written to.
  void check() override {
    if (VT_LIKELY(!failed())) return;
    const uint32_t late = late_ranks_.late();
    while (!drained()) std::this_thread::sleep_for(kPoll);
    const bool rests = site_.streams().drained();
    fail(ErrorKind::kFabricTimeout,
         site_.any_fault() ? site_.fault_sentence(late) : late_ranks_.sentence(),
         "; its results are lost, and reset() makes the communicator usable again",
         rests ? "" : "; what is queued has not ended: keep the tensors of its calls until then");
  }

  bool drained() override {
    if (site_.streams().drained()) return true;
    if (!failed()) return false;
    const int64_t now = Clock::now().time_since_epoch().count();
    int64_t since = 0;
    if (failed_since_.compare_exchange_strong(since, now)) return false;
    return Clock::duration(now - since) > patience_;
  }
  void synchronize() override {
    if (!failed()) site_.streams().synchronize();
    check();
  }

  void abort() override { site_.abort(); }

  void reset() override {
    if (site_.streams().capturing()) return;  // a unit in a capture has not run
    site_.reset();
    late_ranks_.clear();
    failed_since_ = 0;
  }

  void check_replay() override {
    check();
    VT_CHECK(
        !site_.aborted(), kFabric,
        "the communicator of a captured collective was aborted, and its kernels would leave at "
        "once; reset() makes it usable again");
  }
  void before_replay() override { site_.streams().before_replay(); }
  void after_replay() override { site_.streams().after_replay(); }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kPoll = std::chrono::microseconds(50);
  static constexpr const char *kAlone = "copy", *kNothing = "nothing";
  static constexpr size_t kLargeUnit = 64 << 20;  // bytes of a part: smaller ones want no more room
  bool failed() { return site_.any_fault() || late_ranks_.overdue(); }
  static bool is_empty(const Unit& unit) {
    return unit.call().kind != Kind::kBarrier && unit.numel() == 0;
  }

  // Before the unit begins: nothing is allocated while one is queued.
  void make_room(const Unit& unit) {
    if (any_capture() || site_.ranks() == 1) return;
    const auto wants = choose(site_, unit).entry->wants_large_scratch;
    if (wants && wants(site_, unit)) site_.take_large_scratch();
  }

  void carry_out(const Unit& unit) {
    last_ = kNothing;
    if (site_.ranks() == 1) {
      last_ = kAlone;
      if (unit.numel() > 0 && unit.call().has_output(0))
        site_.copy(0, unit.out(0), unit.in(0), unit.bytes());
    } else if (!is_empty(unit)) {
      const Choice choice = choose(site_, unit);
      last_ = name(choice.entry->algorithm).data();
      choice.entry->run(site_, unit, choice.plan);
    }
  }

  Site site_;
  LateRanks late_ranks_;
  const bool shared_;  // have ranks a device in common?
  const Clock::duration patience_;
  std::atomic<int64_t> failed_since_{0};  // when that was seen, by Clock; 0: it was not
  const char* last_ = kNothing;
};

}  // namespace
}  // namespace gpu

std::unique_ptr<Engine> make_cuda_engine(const fabric::Mesh& mesh, const Options& options) {
  return std::make_unique<gpu::CudaEngine>(mesh, options);
}

}  // namespace vt::collectives
