// What only GPUs have: symmetric memory, the trial of pairs, staging, both algorithms bit for bit,
// and a rank whose device does not get there in time.
#if VT_WITH_CUDA
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "collectives/communicator.h"
#include "collectives/cuda/algorithms/line.h"
#include "collectives/cuda/algorithms/one_shot.h"
#include "collectives/cuda/algorithms/packet_two.h"
#include "collectives/cuda/algorithms/two_shot.h"
#include "device/backend.h"
#include "device/cuda/stream.h"
#include "fabric/peer.h"
#include "fabric/symmetric.h"

namespace vt::collectives {
namespace {

constexpr Device kGpu{DeviceType::kCUDA, 0};

fabric::Mesh mesh_of(int ranks) {
  std::vector<Device> devices;
  for (int r = 0; r < ranks; ++r)
    devices.push_back(
        {DeviceType::kCUDA, static_cast<uint8_t>(r % device_count(DeviceType::kCUDA))});
  return fabric::Mesh(devices);
}

Tensor filled(Device device, int64_t count, uint32_t seed) {
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i)
    values[i] = static_cast<float>((i * 2654435761u + seed * 97u) % 1000) * 0.37f;
  Tensor t = empty(Dims{count}, DType::kF32, device);
  copy_bytes(t.data(), device, values.data(), Device{}, t.bytes());
  return t;
}

std::vector<float> host(const Tensor& t) {
  std::vector<float> values(t.numel());
  copy_bytes(values.data(), Device{}, t.data(), t.device(), t.bytes());
  return values;
}

class OnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (device_count(DeviceType::kCUDA) == 0) GTEST_SKIP() << cuda_unavailable_reason();
  }
};

TEST_F(OnGpu, EveryPairPassesTheTrial) {
  // One and the same GPU runs the same trial, so the trial itself is tested anywhere.
  for (int a = 0; a < device_count(DeviceType::kCUDA); ++a)
    for (int b = 0; b < device_count(DeviceType::kCUDA); ++b) {
      const Device from{DeviceType::kCUDA, static_cast<uint8_t>(a)},
          to{DeviceType::kCUDA, static_cast<uint8_t>(b)};
      if (a != b && !fabric::peer_state(from, to).reported) continue;
      EXPECT_EQ(fabric::try_pair(from, to), "");
    }
}

TEST_F(OnGpu, SymmetricTensorsAreZeroAndReachable) {
  const auto mesh = mesh_of(4);
  const auto tensors = fabric::symmetric_zeros(mesh, Dims{3, 1000}, DType::kF32);
  for (int r = 0; r < 4; ++r) {
    EXPECT_EQ(tensors[r].device(), mesh.device(r));
    EXPECT_TRUE(
        fabric::reachable(mesh, tensors[r].device(), tensors[r].data(), tensors[r].bytes()));
    EXPECT_EQ(host(tensors[r]), std::vector<float>(3000, 0.0f));
  }
}

TEST_F(OnGpu, AlgorithmsAndStagingGiveTheSameBits) {
  for (int n : {2, 3, 4, 8}) {
    const auto mesh = mesh_of(n);
    const Options base{.timeout_seconds = 20};
    Options packets = base, direct = base, staged = base, narrow = base;
    packets.algorithm = Algorithm::kPackets;
    direct.algorithm = staged.algorithm = narrow.algorithm = Algorithm::kTwoShot;
    staged.always_stage = true;
    narrow.max_blocks = 3;
    for (int64_t count : {1, 1000, 40001, 9000001}) {  // the last one takes two pieces of staging
      std::vector<float> first;
      for (const Options& options : {packets, direct, staged, narrow}) {
        Communicator comm(mesh, options);
        std::vector<Tensor> tensors;
        for (int r = 0; r < n; ++r) tensors.push_back(filled(mesh.device(r), count, r));
        comm.all_reduce(tensors, ReduceOp::kSum);
        for (const Tensor& t : tensors) {
          const auto values = host(t);
          if (first.empty()) first = values;
          ASSERT_EQ(0, std::memcmp(first.data(), values.data(), t.bytes()))
              << "n=" << n << " count=" << count;
        }
      }
    }
  }
}

TEST_F(OnGpu, ManyCallsInARowKeepTheirOrder) {
  const auto mesh = mesh_of(4);
  Communicator comm(mesh);
  std::vector<Tensor> tensors;
  for (int r = 0; r < 4; ++r) {
    tensors.push_back(empty(Dims{100003}, DType::kF32, mesh.device(r)));
    const std::vector<float> ones(100003, 1.0f);
    copy_bytes(tensors[r].data(), mesh.device(r), ones.data(), Device{}, tensors[r].bytes());
  }
  for (int i = 0; i < 400;
       ++i) {  // sum, then back to the mean of it: large and small, both algorithms
    const int64_t count = i % 3 == 0 ? 100003 : 1 + i * 37;
    std::vector<Tensor> parts;
    for (const Tensor& t : tensors) parts.push_back(view_of(t, Dims{count}, Dims{1}, 0));
    comm.all_reduce(parts, i % 2 ? ReduceOp::kMax : ReduceOp::kAvg);
    if (i % 50 == 0) comm.barrier();
  }
  comm.synchronize();
  for (const Tensor& t : tensors) EXPECT_EQ(host(t), std::vector<float>(100003, 1.0f));
}

// Nobody does the parts of ranks 1 and 2: the kernel of rank 0 meets its deadline, and says so. The
// library launches it, whose CUDA runtime alone knows its kernels.
void expect_to_give_up(gpu::Site& site, const void* kernel, void* args, gpu::Clique& clique,
                       const char* what) {
  const int device = site.mesh().devices()[0].index;
  const auto start = std::chrono::steady_clock::now();
  site.launch_alone(kernel, site.streams().at(0), 1, 32, args);
  backend(kGpu).synchronize(device);
  const auto waited = std::chrono::steady_clock::now() - start;
  EXPECT_TRUE(site.any_fault());
  EXPECT_GE(waited, std::chrono::milliseconds(200));
  EXPECT_LT(waited, std::chrono::seconds(5));
  const std::string sentence = site.fault_sentence(0);
  EXPECT_NE(sentence.find("rank 0 (cuda:0) waited"), std::string::npos) << sentence;
  EXPECT_NE(sentence.find(str("for rank 1 (cuda:0), 2 (cuda:0) to ", what)), std::string::npos)
      << sentence;
  site.reset();
  site.launch(kernel, 1, 32, args, clique);
  backend(kGpu).synchronize(device);
  EXPECT_FALSE(site.any_fault());
}

TEST_F(OnGpu, KernelsGiveUpOnARankThatDoesNotCome) {
  const fabric::Mesh mesh({kGpu, kGpu, kGpu});
  gpu::Site site(mesh, Options{.timeout_seconds = 0.2},
                 {gpu::packets::mailbox(mesh), gpu::lines::mailbox(mesh),
                  gpu::packets2::mailbox(mesh), gpu::one_shot::mailbox(mesh)});
  backend(kGpu).synchronize(kGpu.index);
  gpu::direct::BarrierArgs barrier{site.clique(0)};
  expect_to_give_up(site, gpu::direct::barrier_kernel(), &barrier, barrier.clique, "begin");
  std::vector<Tensor> tensors;
  for (int r = 0; r < 3; ++r) tensors.push_back(filled(kGpu, 2, r));
  const auto expect = [&](auto args, const void* kernel, const char* what) {
    args.clique = site.clique(0);
    args.count = 2;
    for (int r = 0; r < 3; ++r) args.in[r] = args.out[r] = tensors[r].data();
    expect_to_give_up(site, kernel, &args, args.clique, what);
  };
  // One unit, in one block.
  const auto expect_exchange = [&](auto args, size_t number, const void* kernel) {
    using Box = std::remove_pointer_t<std::remove_reference_t<decltype(args.boxes[0])>>;
    args.units = args.per_block = args.room = args.stretch = 1;
    for (int r = 0; r < 3; ++r) args.boxes[r] = site.mailbox<Box>(r, number);
    expect(args, kernel, "send its part");
  };
  constexpr DType kType = DType::kF32;
  constexpr ReduceOp kOp = ReduceOp::kSum;
  expect_exchange(gpu::packets::Args{}, 0, gpu::packets::kernel(kType, kOp, 3));
  expect_exchange(gpu::lines::Args{}, 1, gpu::lines::kernel(kType, kOp, 3));
  expect_exchange(gpu::packets2::Args{}, 2, gpu::packets2::kernel(kType, kOp, 3));
  expect_exchange(gpu::one_shot::Args{}, 3, gpu::one_shot::kernel(kType, kOp, 3));
  expect(gpu::direct::Args{}, gpu::two_shot::kernel(kType, kOp, 3), "begin");
}

// A rank whose stream is held up on the device: kernels on other devices run already and meet their
// deadline, and for ranks of its own device the host keeps it.
TEST_F(OnGpu, AStuckDeviceIsNamedAndTheNextCallWorks) {
  for (Algorithm algorithm : {Algorithm::kPackets, Algorithm::kTwoShot, Algorithm::kCopyEngine}) {
    const auto mesh = mesh_of(3);
    Communicator comm(mesh, Options{.timeout_seconds = 0.3, .algorithm = algorithm});
    std::vector<Tensor> tensors;
    for (int r = 0; r < 3; ++r) tensors.push_back(filled(mesh.device(r), 5000, r));
    for (int r = 0; r < 3; ++r) backend(kGpu).synchronize(mesh.device(r).index);

    std::atomic<bool> held{true};
    const int late = mesh.device(2).index;
    const Stream stuck = cuda_backend().create_stream(late, 0);
    ASSERT_EQ(cudaSuccess, cudaLaunchHostFunc(
                               cuda::handle_of(stuck),
                               [](void* flag) {
                                 while (*static_cast<std::atomic<bool>*>(flag))
                                   std::this_thread::yield();
                               },
                               &held));
    for (int r = 0; r < 2; ++r)
      comm.arrive(r, {Kind::kAllReduce, ReduceOp::kSum, 0, tensors[r], tensors[r]});
    const Stream before = cuda_backend().current_stream(late);
    cuda_backend().set_current_stream(stuck);
    comm.arrive(2, {Kind::kAllReduce, ReduceOp::kSum, 0, tensors[2], tensors[2]});
    cuda_backend().set_current_stream(before);

    std::string message;
    for (int i = 0; i < 100 && message.empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      try {
        comm.arrive(0, {Kind::kAllReduce, ReduceOp::kSum, 0, tensors[0], tensors[0]});
      } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::kFabricTimeout);
        message = e.what();
      }
    }
    EXPECT_NE(message.find(str("for rank 2 (", mesh.device(2), ")")), std::string::npos) << message;
    held = false;
    comm.reset();
    cuda_backend().destroy_stream(stuck);
    std::vector<Tensor> ones;
    for (int r = 0; r < 3; ++r) {
      ones.push_back(empty(Dims{4}, DType::kF32, mesh.device(r)));
      const std::vector<float> values(4, 1.0f);
      copy_bytes(ones[r].data(), mesh.device(r), values.data(), Device{}, 16);
    }
    comm.all_reduce(ones, ReduceOp::kSum);
    comm.synchronize();
    for (const Tensor& t : ones) EXPECT_EQ(host(t), std::vector<float>(4, 3.0f));
  }
}

}  // namespace
}  // namespace vt::collectives
#endif  // VT_WITH_CUDA
