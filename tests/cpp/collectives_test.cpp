// The communicator on CPU devices, and on GPUs where there are any: values against an f64 oracle,
// matching of calls that arrive in any order, and what happens when ranks disagree or do not come.
#include "collectives/communicator.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <random>
#include <thread>

#include "base/error.h"
#include "device/backend.h"

namespace vt::collectives {
namespace {

// Ranks 0..n-1 on cpu:0..n-1, or all on cuda:0.
fabric::Mesh make_mesh(DeviceType type, int ranks) {
  if (type == DeviceType::kCPU && device_count(type) < ranks) set_cpu_devices(16);
  std::vector<Device> devices;
  for (int r = 0; r < ranks; ++r)
    devices.push_back(
        {type, static_cast<uint8_t>(type == DeviceType::kCPU ? r : r % device_count(type))});
  return fabric::Mesh(devices);
}

template <class T>
Tensor to_device(const std::vector<T>& values, Device device) {
  Tensor t = empty(Dims{static_cast<int64_t>(values.size())}, DTypeOf<T>::value, device);
  copy_bytes(t.data(), device, values.data(), Device{}, t.bytes());
  return t;
}

template <class T>
std::vector<T> to_host(const Tensor& t) {
  std::vector<T> values(t.numel());
  copy_bytes(values.data(), Device{}, t.data(), t.device(), t.bytes());
  return values;
}

template <class T>
std::vector<T> random_values(int64_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_int_distribution<int> small(-8, 8);
  std::vector<T> values(count);
  for (T& v : values) {
    const int x = small(engine);
    if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>)
      v = T(static_cast<float>(x) * 0.125f);
    else if constexpr (std::is_integral_v<T>) v = static_cast<T>(std::is_signed_v<T> ? x : x + 8);
    else v = static_cast<T>(x) * static_cast<T>(0.3);
  }
  return values;
}

template <class T>
double value(T v) {
  if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>)
    return static_cast<float>(v);
  else return static_cast<double>(v);
}

double reduce(const std::vector<double>& values, ReduceOp op) {
  double result = values[0];
  for (size_t i = 1; i < values.size(); ++i) {
    if (op == ReduceOp::kProd) result *= values[i];
    else if (op == ReduceOp::kMin) result = std::min(result, values[i]);
    else if (op == ReduceOp::kMax) result = std::max(result, values[i]);
    else result += values[i];
  }
  return op == ReduceOp::kAvg ? result / static_cast<double>(values.size()) : result;
}

template <class T>
double tolerance() {
  if constexpr (std::is_same_v<T, Half>) return 1e-3;
  else if constexpr (std::is_same_v<T, BFloat16>) return 8e-3;
  else if constexpr (std::is_same_v<T, float>) return 2e-6;
  else return 1e-14;
}

// An empty vector has no address that memcmp would take.
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
void expect_all_reduce(Communicator& comm, int64_t count, ReduceOp op, bool in_place) {
  const int n = comm.mesh().size();
  std::vector<std::vector<T>> values;
  std::vector<Tensor> inputs, outputs;
  for (int r = 0; r < n; ++r) {
    values.push_back(random_values<T>(count, 100 * r + count));
    inputs.push_back(to_device(values[r], comm.mesh().device(r)));
    outputs.push_back(in_place ? inputs[r] : empty_like(inputs[r]));
  }
  comm.all_reduce(inputs, outputs, op);
  const auto first = to_host<T>(outputs[0]);
  for (int64_t i = 0; i < count; ++i) {
    std::vector<double> column;
    for (int r = 0; r < n; ++r) column.push_back(value(values[r][i]));
    double want = reduce(column, op);
    if constexpr (std::is_integral_v<T>)
      want = static_cast<T>(static_cast<int64_t>(want));  // wraps, truncates
    ASSERT_NEAR(value(first[i]), want, tolerance<T>() * (1 + std::abs(want)))
        << name(op) << " " << short_name(DTypeOf<T>::value) << " n=" << n << " count=" << count
        << " at " << i;
  }
  for (int r = 1; r < n; ++r) {
    const auto other = to_host<T>(outputs[r]);
    ASSERT_TRUE(same_bits(first, other)) << "rank " << r << " has other bits";
  }
}

class OnDevice : public testing::TestWithParam<DeviceType> {
 protected:
  void SetUp() override {
    if (device_count(GetParam()) == 0) GTEST_SKIP() << cuda_unavailable_reason();
  }
  std::vector<int> rank_counts() const {
    if (GetParam() == DeviceType::kCUDA) return {1, 2, 3, 4, 8};
    return {1, 2, 3, 4, 5, 7, 8, 11, 16};
  }
};

TEST_P(OnDevice, AllReduceMatchesTheOracle) {
  for (int n : rank_counts()) {
    Communicator comm(make_mesh(GetParam(), n));
    for (int64_t count : {0, 1, 7, 255, 4099, 70001})
      for (bool in_place : {true, false}) {
        expect_all_reduce<float>(comm, count, ReduceOp::kSum, in_place);
        expect_all_reduce<BFloat16>(comm, count, ReduceOp::kSum, in_place);
        expect_all_reduce<Half>(comm, count, ReduceOp::kAvg, in_place);
      }
  }
}

TEST_P(OnDevice, EveryTypeAndOp) {
  Communicator comm(make_mesh(GetParam(), 3));
  for (ReduceOp op :
       {ReduceOp::kSum, ReduceOp::kAvg, ReduceOp::kProd, ReduceOp::kMin, ReduceOp::kMax})
    for (int64_t count : {5, 1031}) {
      expect_all_reduce<double>(comm, count, op, true);
      expect_all_reduce<float>(comm, count, op, true);
      expect_all_reduce<Half>(comm, count, op, true);
      expect_all_reduce<BFloat16>(comm, count, op, true);
      expect_all_reduce<int64_t>(comm, count, op, true);
      expect_all_reduce<int32_t>(comm, count, op, true);
      if (op == ReduceOp::kProd || op == ReduceOp::kAvg)
        continue;  // 8-bit intermediates wrap; tested by value below
      expect_all_reduce<int8_t>(comm, count, op, true);
      expect_all_reduce<uint8_t>(comm, count, op, true);
    }
}

TEST_P(OnDevice, UnalignedViewsAndNeighboursAreLeftAlone) {
  constexpr int64_t kCount = 40003, kMargin = 16;
  for (int n : {2, 4})
    for (Algorithm algorithm : {Algorithm::kPackets, Algorithm::kTwoShot})
      for (bool alike : {true, false}) {  // are all ranks off by the same?
        Communicator comm(make_mesh(GetParam(), n),
                          Options{.timeout_seconds = 20, .algorithm = algorithm});
        std::vector<Tensor> whole, parts;
        for (int r = 0; r < n; ++r) {
          const std::vector<Half> ones(kCount + kMargin, Half(1.0f));
          whole.push_back(to_device(ones, comm.mesh().device(r)));
          parts.push_back(view_of(whole[r], Dims{kCount}, Dims{1}, alike ? 3 : 1 + r));
        }
        comm.all_reduce(parts, ReduceOp::kSum);
        for (int r = 0; r < n; ++r) {
          const auto values = to_host<Half>(whole[r]);
          const int64_t at = parts[r].offset();
          for (int64_t i = 0; i < kCount + kMargin; ++i)
            ASSERT_EQ(value(values[i]), i >= at && i < at + kCount ? n : 1)
                << "algorithm " << static_cast<int>(algorithm) << " rank " << r << " at " << i;
        }
      }
}

TEST_P(OnDevice, NaNSurvivesMinAndMax) {
  Communicator comm(make_mesh(GetParam(), 3));
  for (ReduceOp op : {ReduceOp::kMin, ReduceOp::kMax})
    for (int holder = 0; holder < 3; ++holder) {
      std::vector<Tensor> tensors;
      for (int r = 0; r < 3; ++r)
        tensors.push_back(
            to_device(std::vector<float>{r == holder ? NAN : 1.0f}, comm.mesh().device(r)));
      comm.all_reduce(tensors, op);
      for (const Tensor& t : tensors)
        EXPECT_TRUE(std::isnan(to_host<float>(t)[0])) << name(op) << holder;
    }
}

TEST_P(OnDevice, BroadcastFromEveryRoot) {
  for (int n : rank_counts()) {
    Communicator comm(make_mesh(GetParam(), n));
    for (int root = 0; root < n; ++root)
      for (int64_t count : {0, 1, 13, 30011}) {
        std::vector<Tensor> tensors;
        for (int r = 0; r < n; ++r)
          tensors.push_back(to_device(random_values<Half>(count, r), comm.mesh().device(r)));
        comm.broadcast(tensors, root);
        const auto want = random_values<Half>(count, root);
        for (const Tensor& t : tensors) {
          const auto got = to_host<Half>(t);
          ASSERT_TRUE(same_bits(got, want)) << "n=" << n << " root=" << root;
        }
      }
  }
}

TEST_P(OnDevice, RanksArriveFromThreadsInAnyOrder) {
  constexpr int kRanks = 4, kCalls = 60;
  Communicator comm(make_mesh(GetParam(), kRanks));
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int r = 0; r < kRanks; ++r)
    threads.emplace_back([&, r] {
      std::mt19937 engine(r);
      std::vector<Tensor> mine;
      for (int c = 0; c < kCalls; ++c) {
        std::this_thread::sleep_for(std::chrono::microseconds(engine() % 300));
        const int64_t count = (c * 977) % 5000;  // the same at every rank
        mine.push_back(
            to_device(std::vector<float>(count, static_cast<float>(r + c)), comm.mesh().device(r)));
        comm.arrive(r, {Kind::kAllReduce, ReduceOp::kSum, 0, mine[c], mine[c]});
        if (engine() % 4 == 0) comm.wait(r);
      }
      comm.wait(r);
      for (int c = 0; c < kCalls; ++c)
        for (float v : to_host<float>(mine[c])) wrong += v != 6.0f + 4.0f * static_cast<float>(c);
    });
  for (auto& t : threads) t.join();
  comm.synchronize();
  EXPECT_EQ(wrong, 0);
}

template <class F>
std::string message_of(ErrorKind kind, F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), kind) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST_P(OnDevice, DisagreementNamesBothRanks) {
  const auto mesh = make_mesh(GetParam(), 2);
  Communicator comm(mesh);
  const Tensor a = to_device(std::vector<float>(4, 1.0f), mesh.device(0));
  const Tensor b = to_device(std::vector<float>(5, 1.0f), mesh.device(1));
  std::vector<Tensor> both{a, b};
  const auto group = message_of(ErrorKind::kFabric, [&] { comm.all_reduce(both, ReduceOp::kSum); });
  EXPECT_NE(group.find("rank 0 calls all_reduce sum of f32[4]"), std::string::npos) << group;
  EXPECT_NE(group.find("rank 1 calls all_reduce sum of f32[5]"), std::string::npos) << group;

  comm.arrive(0, {Kind::kAllReduce, ReduceOp::kSum, 0, a, a});
  comm.arrive(1, {Kind::kAllReduce, ReduceOp::kMax, 0, b, b});
  EXPECT_EQ(message_of(ErrorKind::kFabric, [&] { comm.wait(0); }),
            message_of(ErrorKind::kFabric, [&] { comm.wait(1); }));
  // The next call is not harmed.
  std::vector<Tensor> good{a, to_device(std::vector<float>(4, 2.0f), mesh.device(1))};
  comm.all_reduce(good, ReduceOp::kSum);
  EXPECT_EQ(to_host<float>(a), std::vector<float>(4, 3.0f));
}

TEST_P(OnDevice, SharedMemoryAndForeignDevicesAreRefused) {
  const auto mesh = make_mesh(GetParam(), 2);
  Communicator comm(mesh);
  const Tensor a = to_device(std::vector<float>(8, 1.0f), mesh.device(0));
  if (mesh.device(0) == mesh.device(1)) {
    std::vector<Tensor> twice{a, a};
    EXPECT_NE(message_of(ErrorKind::kValue, [&] { comm.all_reduce(twice, ReduceOp::kSum); })
                  .find("share memory"),
              std::string::npos);
  } else {
    std::vector<Tensor> wrong{a, a};
    EXPECT_NE(message_of(ErrorKind::kRuntime, [&] { comm.all_reduce(wrong, ReduceOp::kSum); })
                  .find("rank 1"),
              std::string::npos);
  }
}

TEST_P(OnDevice, ARankThatNeverComesIsNamedAndTheNextCallWorks) {
  const auto mesh = make_mesh(GetParam(), 3);
  Communicator comm(mesh, Options{.timeout_seconds = 0.2});
  std::vector<Tensor> tensors;
  for (int r = 0; r < 3; ++r)
    tensors.push_back(to_device(std::vector<float>(9, 1.0f), mesh.device(r)));
  const auto start = std::chrono::steady_clock::now();
  for (int r = 0; r < 2; ++r)
    comm.arrive(r, {Kind::kAllReduce, ReduceOp::kSum, 0, tensors[r], tensors[r]});
  const auto message = message_of(ErrorKind::kFabricTimeout, [&] { comm.wait(0); });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_NE(message.find(str("rank 2 (", mesh.device(2), ") did not arrive")), std::string::npos)
      << message;
  message_of(ErrorKind::kFabricTimeout, [&] { comm.wait(1); });
  message_of(ErrorKind::kFabricTimeout, [&] { comm.all_reduce(tensors, ReduceOp::kSum); });
  comm.reset();
  comm.all_reduce(tensors, ReduceOp::kSum);
  for (const Tensor& t : tensors) EXPECT_EQ(to_host<float>(t), std::vector<float>(9, 3.0f));
}

INSTANTIATE_TEST_SUITE_P(Cpu, OnDevice, testing::Values(DeviceType::kCPU));
INSTANTIATE_TEST_SUITE_P(Cuda, OnDevice, testing::Values(DeviceType::kCUDA));

}  // namespace
}  // namespace vt::collectives
