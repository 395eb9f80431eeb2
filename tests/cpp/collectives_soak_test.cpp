// Many collectives of every kind at once on CPU devices: ranks in threads of their own, group calls
// and handles on a subgroup, and an abort in the middle. Short, so that it can run under a thread
// sanitizer; tests/collectives/endurance.py is the long one.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "base/error.h"
#include "collectives/communicator.h"
#include "device/backend.h"

namespace vt::collectives {
namespace {

constexpr int kRanks = 4;

fabric::Mesh make_mesh() {
  if (device_count(DeviceType::kCPU) < kRanks) set_cpu_devices(16);
  std::vector<Device> devices;
  for (int r = 0; r < kRanks; ++r) devices.push_back({DeviceType::kCPU, static_cast<uint8_t>(r)});
  return fabric::Mesh(devices);
}

Tensor filled(Device device, int64_t count, int32_t value) {
  Tensor t = empty(Dims{count}, DType::kI32, device);
  std::fill_n(t.data<int32_t>(), count, value);
  return t;
}

// The call of a rank, and what every element of its output must be if all bring rank + 1.
struct Expected {
  Call call;
  std::vector<int32_t> parts;  // by part of the output
};

Expected make_call(Kind kind, Device device, int rank, int root, int64_t part) {
  const Traits& shape = traits(kind);
  Expected e{{kind, ReduceOp::kSum, root, {}, {}}, {}};
  if (kind == Kind::kSendRecv) {
    e.call.to = (rank + 1) % kRanks;
    e.call.from = (rank + kRanks - 1) % kRanks;
  }
  const auto size = [&](Parts parts) { return parts == Parts::kPerRank ? part * kRanks : part; };
  if (e.call.has_input(rank)) e.call.input = filled(device, size(shape.input), rank + 1);
  if (!e.call.has_output(rank)) return e;
  e.call.output = filled(device, size(shape.output), -1);
  for (int p = 0; p < (shape.output == Parts::kPerRank ? kRanks : 1); ++p) {
    if (shape.reduces) e.parts.push_back(kRanks * (kRanks + 1) / 2);
    else if (kind == Kind::kSendRecv) e.parts.push_back(e.call.from + 1);
    else if (shape.output == Parts::kPerRank) e.parts.push_back(p + 1);
    else e.parts.push_back(root + 1);
  }
  return e;
}

int wrong(const Expected& e, int64_t part) {
  int count = 0;
  for (size_t p = 0; p < e.parts.size(); ++p)
    for (int64_t i = 0; i < part; ++i)
      count += e.call.output.data<int32_t>()[static_cast<int64_t>(p) * part + i] != e.parts[p];
  return count;
}

TEST(CollectivesSoak, EveryKindFromThreadsOfTheRanks) {
  Communicator comm(make_mesh());
  std::atomic<int> mistakes{0};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank)
    threads.emplace_back([&, rank] {
      std::mt19937 order(7), pace(static_cast<uint32_t>(rank));  // the same order at every rank
      const Device device = comm.mesh().device(rank);
      for (int round = 0; round < 40; ++round) {
        std::vector<std::pair<Expected, int64_t>> calls;
        for (int c = 0; c < 10; ++c) {
          const auto kind = static_cast<Kind>(order() % kKindCount);
          const int root = static_cast<int>(order() % kRanks);
          const int64_t part = order() % 300;
          calls.emplace_back(make_call(kind, device, rank, root, part), part);
          if (pace() % 8 == 0) std::this_thread::yield();
          comm.arrive(rank, calls.back().first.call);
          if (pace() % 4 == 0) comm.wait(rank);
        }
        comm.wait(rank);
        for (const auto& [call, part] : calls) mistakes += wrong(call, part);
      }
    });
  threads.emplace_back([&] {  // beside them, two of the ranks among themselves
    const int pair[] = {1, 3};
    const auto two = comm.subgroup(pair);
    for (int c = 0; c < 300; ++c) {
      std::vector<Tensor> rows;
      for (int r = 0; r < 2; ++r) rows.push_back(filled(two->mesh().device(r), 100 + c, c + r));
      Work work = two->start({Kind::kAllReduce}, rows, rows);
      if (c % 3 == 0) two->barrier();
      while (c % 5 == 0 && !work.is_completed()) std::this_thread::yield();
      work.wait();
      for (const Tensor& row : rows) mistakes += row.data<int32_t>()[99] != 2 * c + 1;
    }
  });
  for (std::thread& thread : threads) thread.join();
  comm.synchronize();
  EXPECT_EQ(mistakes, 0);
}

TEST(CollectivesSoak, AnAbortReachesAllWhoWait) {
  Communicator comm(make_mesh(), Options{.timeout_seconds = 30});
  for (int round = 0; round < 10; ++round) {
    std::atomic<int> told{0};
    std::vector<std::thread> threads;
    for (int rank = 0; rank < kRanks - 1; ++rank)
      threads.emplace_back([&, rank] {
        try {
          comm.arrive(rank, make_call(Kind::kAllGather, comm.mesh().device(rank), rank, 0, 5).call);
          comm.wait(rank);
        } catch (const Error& e) { told += e.kind() == ErrorKind::kFabric; }
      });
    std::this_thread::sleep_for(std::chrono::milliseconds(round));
    comm.abort();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(told, kRanks - 1);
    comm.reset();
    comm.barrier();
  }
}

}  // namespace
}  // namespace vt::collectives
