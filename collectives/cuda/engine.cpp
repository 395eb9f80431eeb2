// The GPU engine: one kernel a rank, each on a high-priority stream of its own, queued as one unit.
// Nothing is allocated and nothing waits for the host on the way.
#include "collectives/engine.h"

#include <algorithm>
#include <mutex>

#include "base/error.h"
#include "collectives/cuda/fault_board.h"
#include "collectives/cuda/kernel.h"
#include "collectives/cuda/rank_streams.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/unit_lock.h"
#include "fabric/peer.h"
#include "fabric/symmetric.h"

namespace vt::collectives {
namespace gpu {
namespace {

using cuda::DeviceGuard;
using fabric::Mesh;
using fabric::Pad;

constexpr size_t kStageBytes = 32 << 20;  // of a rank, for tensors that the peers cannot reach
constexpr size_t kPacketLimit =
    256 << 10;  // up to here packets win; above, they cost more than two barriers
constexpr size_t kBytesPerBlock = 32
                                  << 10;  // of a rank's slice: less does not pay for another block
constexpr int64_t kPacketsAtOnce = kThreads;  // of a block, before it takes another one

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

// Where the parts of a rank's slot lie.
struct Layout {
  explicit Layout(int ranks, bool stage)
      : mailbox(round_up(sizeof(Pad), 4096)),
        stage(mailbox + mailbox_bytes(ranks)),
        total(this->stage + (stage ? kStageBytes : 0)) {}
  size_t mailbox, stage, total;
};

class CudaEngine final : public Engine {
 public:
  CudaEngine(const Mesh& mesh, const Options& options)
      : mesh_(mesh),
        options_(options),
        staged_(options.always_stage || mesh.devices().size() > 1),
        layout_(mesh.size(), staged_),
        streams_(mesh) {
    fabric::require_peers(mesh);
    blocks_ = resident_blocks();
    memory_ = fabric::SymmetricMemory::create(mesh, layout_.total);
  }

  void* mark_arrival(int rank) override { return streams_.mark(rank); }
  void drop_mark(int, void* mark) override { RankStreams::drop(mark); }

  void run(const Unit& unit) override {
    std::lock_guard lock(cuda::launch_unit_mutex());
    ++sequence_;
    streams_.begin(unit);
    if (mesh_.size() == 1) copy_alone(unit.call());
    else if (unit.call().kind == Kind::kBarrier) launch_direct(barrier_kernel(), {}, 1);
    else if (unit.numel() > 0) move(unit);
    streams_.end();
  }

  void join(int rank) override { streams_.join(rank); }

  void check() override {
    if (VT_LIKELY(!faults_.any(mesh_))) return;
    fail(ErrorKind::kFabricTimeout, faults_.sentence(mesh_),
         "; its results are lost, and reset() makes the communicator usable again");
  }

  void synchronize() override {
    streams_.synchronize();
    check();
  }

  void reset() override {
    faults_.abort();  // whoever still waits in a kernel leaves
    streams_.synchronize();
    for (int r = 0; r < mesh_.size(); ++r) {
      DeviceGuard guard(index(r));
      VT_CUDA(cudaMemsetAsync(memory_->slot(r), 0, layout_.stage, streams_[r]));
    }
    streams_.synchronize();
    faults_.clear();
  }

 private:
  int index(int rank) const { return mesh_.device(rank).index; }

  // Loads every kernel on every device, and finds how many blocks a rank may have so that all ranks
  // of a device are resident together: a block that waits for one that is not would wait for ever.
  int resident_blocks() const {
    std::lock_guard lock(cuda::launch_unit_mutex());
    int blocks = options_.max_blocks > 0 ? std::min(options_.max_blocks, kMaxBlocks) : kMaxBlocks;
    for (Device device : mesh_.devices()) {
      DeviceGuard guard(device.index);
      for_each_kernel([](const void* kernel) {
        cudaFuncAttributes attributes{};
        VT_CUDA(cudaFuncGetAttributes(&attributes, kernel));
        VT_CHECK(attributes.maxThreadsPerBlock >= kThreads, kRuntime,
                 "communicator: a kernel allows only ", attributes.maxThreadsPerBlock,
                 " threads a block");
      });
      int per_processor = 0;
      VT_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
          &per_processor, two_shot_kernel(DType::kBF16, ReduceOp::kSum, kMaxCudaRanks), kThreads,
          0));
      const int room = per_processor * cuda::multiprocessors(device.index);
      blocks = std::min(blocks, room / mesh_.ranks_on(device));
    }
    VT_CHECK(blocks >= 1, kFabric, "communicator: the ranks of ", mesh_,
             " do not fit on their devices together");
    return blocks;
  }

  Clique clique(int rank) const {
    Clique result{};
    for (int r = 0; r < mesh_.size(); ++r) result.pads[r] = memory_->slot<Pad>(r, 0);
    result.board = faults_.board();
    result.timeout_ns = static_cast<uint64_t>(options_.timeout_seconds * 1e9);
    result.sequence = sequence_;
    result.rank = rank;
    result.ranks = mesh_.size();
    return result;
  }

  template <class Args>
  void launch(const void* kernel, int rank, int blocks, Args& args) {
    void* parameters[] = {&args};
    DeviceGuard guard(index(rank));
    VT_CUDA(cudaLaunchKernel(kernel, dim3(blocks), dim3(kThreads), parameters, 0, streams_[rank]));
  }

  void launch_direct(const void* kernel, DirectArgs args, int blocks) {
    for (int r = 0; r < mesh_.size(); ++r) {
      args.clique = clique(r);
      launch(kernel, r, blocks, args);
    }
  }

  static size_t element_size(const Unit& unit) {  // broadcast moves bytes
    return unit.call().kind == Kind::kBroadcast ? 1 : item_size(unit.call().input.dtype());
  }

  void copy_alone(const Call& call) {
    if (call.kind == Kind::kBarrier || call.input.bytes() == 0 ||
        call.input.data() == call.output.data())
      return;
    DeviceGuard guard(index(0));
    VT_CUDA(cudaMemcpyAsync(call.output.data(), call.input.data(), call.input.bytes(),
                            cudaMemcpyDeviceToDevice, streams_[0]));
  }

  bool use_packets(const Unit& unit) const {
    if (unit.call().kind != Kind::kAllReduce || options_.algorithm == Algorithm::kTwoShot)
      return false;
    const size_t room = static_cast<size_t>(blocks_) * kPacketsPerBlock * kPacketBytes;
    return unit.bytes() <=
           (options_.algorithm == Algorithm::kPackets ? room : std::min(room, kPacketLimit));
  }

  bool all_reachable(const Unit& unit) const {
    return std::all_of(unit.calls.begin(), unit.calls.end(), [&](const Call& call) {
      return fabric::reachable(mesh_, call.input.device(), call.input.data(), call.input.bytes()) &&
             fabric::reachable(mesh_, call.output.device(), call.output.data(),
                               call.output.bytes());
    });
  }

  void move(const Unit& unit) {
    if (use_packets(unit)) return packets(unit);
    if (!options_.always_stage && all_reachable(unit)) {
      DirectArgs args{};
      for (int r = 0; r < mesh_.size(); ++r) {
        args.in[r] = unit.calls[r].input.data();
        args.out[r] = unit.calls[r].output.data();
      }
      return direct(unit, args, unit.bytes() / element_size(unit));
    }
    for (size_t at = 0; at < unit.bytes(); at += kStageBytes)
      stage(unit, at, std::min(kStageBytes, unit.bytes() - at));
  }

  void direct(const Unit& unit, DirectArgs args, int64_t count) {
    const Call& call = unit.call();
    args.count = count;
    args.root = call.root;
    args.average = call.op == ReduceOp::kAvg;
    const size_t slice = static_cast<size_t>(count) * element_size(unit) / mesh_.size();
    const int blocks = static_cast<int>(std::clamp<size_t>(slice / kBytesPerBlock, 1, blocks_));
    launch_direct(call.kind == Kind::kBroadcast
                      ? broadcast_kernel()
                      : two_shot_kernel(call.input.dtype(), call.op, mesh_.size()),
                  args, blocks);
  }

  // The barrier at the end of the kernel also frees the staging buffer for the next piece.
  void stage(const Unit& unit, size_t at, size_t bytes) {
    DirectArgs args{};
    for (int r = 0; r < mesh_.size(); ++r) {
      args.in[r] = args.out[r] = memory_->slot<void>(r, layout_.stage);
      copy(r, args.out[r], static_cast<const char*>(unit.calls[r].input.data()) + at, bytes);
    }
    direct(unit, args, static_cast<int64_t>(bytes / element_size(unit)));
    for (int r = 0; r < mesh_.size(); ++r)
      copy(r, static_cast<char*>(unit.calls[r].output.data()) + at, args.out[r], bytes);
  }

  void copy(int rank, void* to, const void* from, size_t bytes) {
    DeviceGuard guard(index(rank));
    VT_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, streams_[rank]));
  }

  void packets(const Unit& unit) {
    const Call& call = unit.call();
    const void* kernel = packet_kernel(call.input.dtype(), call.op);
    const int64_t total = static_cast<int64_t>((unit.bytes() + kPacketBytes - 1) / kPacketBytes);
    int64_t blocks = std::min<int64_t>((total + kPacketsAtOnce - 1) / kPacketsAtOnce, blocks_);
    PacketArgs args{};
    args.count = unit.numel();
    args.packets_per_block = (total + blocks - 1) / blocks;
    args.average = call.op == ReduceOp::kAvg;
    blocks =
        (total + args.packets_per_block - 1) / args.packets_per_block;  // none without a packet
    for (int r = 0; r < mesh_.size(); ++r)
      args.mailboxes[r] = memory_->slot<Packet>(r, layout_.mailbox);
    for (int r = 0; r < mesh_.size(); ++r) {
      args.clique = clique(r);
      args.in = unit.calls[r].input.data();
      args.out = unit.calls[r].output.data();
      launch(kernel, r, static_cast<int>(blocks), args);
    }
  }

  Mesh mesh_;
  Options options_;
  bool staged_;
  Layout layout_;
  int blocks_ = 1;
  uint32_t sequence_ = 0;
  std::shared_ptr<fabric::SymmetricMemory> memory_;
  FaultMemory faults_;
  RankStreams streams_;  // the last one: it goes first, and waits for kernels that use the others
};

}  // namespace
}  // namespace gpu

std::unique_ptr<Engine> make_cuda_engine(const fabric::Mesh& mesh, const Options& options) {
  return std::make_unique<gpu::CudaEngine>(mesh, options);
}

}  // namespace vt::collectives
