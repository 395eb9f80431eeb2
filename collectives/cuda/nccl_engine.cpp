// Units carried out by NVIDIA's NCCL: one NCCL communicator a GPU, all driven by this process. The
// library is opened when the first such engine is made.
#include <cstdlib>
#include <mutex>

#include "base/error.h"
#include "collectives/cuda/device_streams.h"
#include "collectives/cuda/nccl_abi.h"
#include "collectives/engine.h"
#include "device/cuda/device.h"
#include "device/cuda/unit_lock.h"
#include "device/deferred.h"
#include "device/vendor_library.h"

namespace vt::collectives {
namespace gpu {
namespace {

using namespace nccl;

// NCCL reads its switches when it starts. NVLink multicast is not used in this house, so that it
// is off unless the user has switched it on.
const VendorName& switch_off_multicast() {
  (void)setenv("NCCL_NVLS_ENABLE", "0", 0);
  return kNccl;
}

struct Api {
  VendorLibrary library{switch_off_multicast()};
  GetVersionFn* get_version = library.function<GetVersionFn>("ncclGetVersion");
  GetErrorStringFn* get_error_string = library.function<GetErrorStringFn>("ncclGetErrorString");
  CommInitAllFn* comm_init_all = library.function<CommInitAllFn>("ncclCommInitAll");
  CommDestroyFn* comm_destroy = library.function<CommDestroyFn>("ncclCommDestroy");
  GroupFn* group_start = library.function<GroupFn>("ncclGroupStart");
  GroupFn* group_end = library.function<GroupFn>("ncclGroupEnd");
  AllReduceFn* all_reduce = library.function<AllReduceFn>("ncclAllReduce");
  AllReduceFn* reduce_scatter = library.function<AllReduceFn>("ncclReduceScatter");
  ReduceFn* reduce = library.function<ReduceFn>("ncclReduce");
  BroadcastFn* broadcast = library.function<BroadcastFn>("ncclBroadcast");
  AllGatherFn* all_gather = library.function<AllGatherFn>("ncclAllGather");
  SendFn* send = library.function<SendFn>("ncclSend");
  ReceiveFn* receive = library.function<ReceiveFn>("ncclRecv");
};

const Api& api() {
  static const auto* const instance = new Api;  // a failed search is tried again at the next use
  return *instance;
}

void check_nccl(Result result, const char* call) {
  VT_CHECK(result == kSuccess, kFabric, "NCCL: ", call, " failed: ", api().get_error_string(result),
           " (", result, "); NCCL_DEBUG=WARN makes it print the reason");
}

DataType data_type(DType dtype) {
  switch (dtype) {
    case DType::kI8: return kInt8;
    case DType::kU8: return kUint8;
    case DType::kI32: return kInt32;
    case DType::kI64: return kInt64;
    case DType::kF16: return kFloat16;
    case DType::kBF16: return kBfloat16;
    case DType::kF32: return kFloat32;
    case DType::kF64: return kFloat64;
    default: fail(ErrorKind::kType, "collective: no reduction in NCCL for ", name(dtype));
  }
}

RedOp reduction(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum: return kSum;
    case ReduceOp::kAvg: return kAvg;
    case ReduceOp::kProd: return kProd;
    case ReduceOp::kMin: return kMin;
    case ReduceOp::kMax: return kMax;
  }
  fail(ErrorKind::kValue, "collective: unknown reduction");
}

class NcclEngine final : public Engine {
 public:
  explicit NcclEngine(const fabric::Mesh& mesh)
      : mesh_(mesh), streams_(mesh), comms_(mesh.size(), nullptr) {
    VT_CHECK(mesh.max_ranks_on_a_device() == 1, kValue,
             "communicator: NCCL takes one rank a GPU, and two ranks of ", mesh,
             " share one; give each rank a GPU of its own, or leave the algorithm at auto");
    std::vector<int> indices;
    for (Device device : mesh.ranks()) indices.push_back(device.index);
    const Api& library = api();
    std::lock_guard lock(cuda::launch_unit_mutex());  // NCCL allocates and loads modules
    check_nccl(library.comm_init_all(comms_.data(), mesh.size(), indices.data()),
               "ncclCommInitAll");
  }

  ~NcclEngine() override {
    try {
      streams_.synchronize();
    } catch (const Error&) {  // a context is lost, and with it what was queued
    }
    std::lock_guard lock(cuda::launch_unit_mutex());
    for (Comm comm : comms_)
      if (comm) (void)api().comm_destroy(comm);
  }

  void* mark_arrival(int rank) override { return streams_.mark(rank); }
  void drop_mark(int, void* mark) override { DeviceStreams::drop(mark); }
  void join(int rank) override { streams_.join(rank); }
  bool drained() override { return streams_.drained(); }
  void synchronize() override { streams_.synchronize(); }
  void reset() override {
    if (!streams_.capturing()) streams_.synchronize();
  }
  void before_replay() override { streams_.before_replay(); }
  void after_replay() override { streams_.after_replay(); }

  bool queues() const override { return true; }
  std::unique_ptr<Completion> completion() override { return streams_.completion(); }

  const char* algorithm(const Unit&) const override { return "nccl"; }
  const char* last_algorithm() const override { return "nccl"; }

  void run(const Unit& unit) override {
    if (unit.in_line) run_deferred();
    std::lock_guard lock(cuda::launch_unit_mutex());
    if (unit.call().kind == Kind::kBarrier) {
      streams_.begin_together(unit, shared_from_this());  // events are enough
    } else {
      streams_.begin(unit, shared_from_this());
      try {
        if (unit.numel() > 0) queue(unit);
      } catch (...) {
        streams_.end();  // of what has been launched
        throw;
      }
    }
    streams_.end();
  }

 private:
  void queue(const Unit& unit) {
    check_nccl(api().group_start(), "ncclGroupStart");
    Result result = kSuccess;
    switch (unit.call().kind) {
      case Kind::kAllReduce:
      case Kind::kReduceScatter:
      case Kind::kReduce:
      case Kind::kBroadcast:
      case Kind::kAllGather:
        for (int r = 0; r < mesh_.size() && result == kSuccess; ++r) result = queue(unit, r);
        break;
      default:  // NCCL knows the others as sends and receives
        for_each_move(unit, [&](int source, int destination, const void* from, void* to) {
          if (result == kSuccess) result = send(unit, source, destination, from, to);
        });
    }
    const Result ended = api().group_end();  // also after a failure: a group must not stay open
    check_nccl(result, std::string(name(unit.call().kind)).c_str());
    check_nccl(ended, "ncclGroupEnd");
  }

  Result queue(const Unit& unit, int rank) {
    const Call& call = unit.calls[rank];
    const Comm comm = comms_[rank];
    cuda::DeviceGuard guard(mesh_.device(rank).index);
    const cudaStream_t stream = streams_[rank];
    const auto count = static_cast<size_t>(unit.part);
    // Who has no input or no output gives NCCL an address that it does not look at.
    const void* const in = call.has_input(rank) ? unit.in(rank) : unit.out(rank);
    void* const out = call.has_output(rank) ? unit.out(rank) : nullptr;
    switch (call.kind) {
      case Kind::kAllReduce:
        return api().all_reduce(in, out, count, data_type(unit.dtype), reduction(call.op), comm,
                                stream);
      case Kind::kReduceScatter:
        return api().reduce_scatter(in, out, count, data_type(unit.dtype), reduction(call.op), comm,
                                    stream);
      case Kind::kReduce:
        return api().reduce(in, out, count, data_type(unit.dtype), reduction(call.op), call.root,
                            comm, stream);
      case Kind::kAllGather: return api().all_gather(in, out, unit.bytes(), kInt8, comm, stream);
      default: return api().broadcast(in, out, unit.bytes(), kInt8, call.root, comm, stream);
    }
  }

  Result send(const Unit& unit, int source, int destination, const void* from, void* to) {
    Result result;
    {
      cuda::DeviceGuard guard(mesh_.device(source).index);
      result = api().send(from, unit.bytes(), kInt8, destination, comms_[source], streams_[source]);
    }
    if (result != kSuccess) return result;
    cuda::DeviceGuard guard(mesh_.device(destination).index);
    return api().receive(to, unit.bytes(), kInt8, source, comms_[destination],
                         streams_[destination]);
  }

  fabric::Mesh mesh_;
  DeviceStreams streams_;
  std::vector<Comm> comms_;  // by rank
};

}  // namespace
}  // namespace gpu

std::unique_ptr<Engine> make_nccl_engine(const fabric::Mesh& mesh) {
  return std::make_unique<gpu::NcclEngine>(mesh);
}

std::string nccl_version() {
  int version = 0;
  gpu::check_nccl(gpu::api().get_version(&version), "ncclGetVersion");
  return str(version / 10000, '.', version / 100 % 100, '.', version % 100);
}

}  // namespace vt::collectives
