// Buckets: how flat gradients are cut. Reduction: sums, order and unused parameters, below Python.
#include "collectives/reducer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "autograd/variable.h"
#include "base/error.h"
#include "device/backend.h"
#include "ops/ops.h"

namespace vt::collectives {
namespace {

ArenaLayout layout(const std::vector<int64_t>& sizes, int first_number) {
  ArenaLayout arena;
  for (int64_t size : sizes) {
    arena.offsets.push_back(arena.numel);
    arena.parameters.push_back(first_number++);
    arena.numel += size;
  }
  return arena;
}

// Every element of every arena is in exactly one bucket, every parameter whole.
void expect_partition(const std::vector<ArenaLayout>& arenas, const std::vector<Bucket>& buckets) {
  for (size_t a = 0; a < arenas.size(); ++a) {
    std::vector<std::pair<int64_t, int64_t>> ranges;
    for (const Bucket& b : buckets)
      if (b.arena == static_cast<int>(a)) ranges.emplace_back(b.begin, b.end);
    std::sort(ranges.begin(), ranges.end());
    int64_t at = 0;
    for (auto [begin, end] : ranges) {
      EXPECT_EQ(begin, at);
      at = end;
    }
    EXPECT_EQ(at, arenas[a].numel);
  }
}

TEST(Buckets, GoFromLastToFirstAndCoverEverything) {
  const std::vector<ArenaLayout> arenas = {layout({64, 128, 64, 256, 64}, 0)};
  for (int64_t limit : {1, 256, 600, 1024, 1 << 20}) {
    const auto buckets = plan_buckets(arenas, {limit, limit});
    expect_partition(arenas, buckets);
    EXPECT_EQ(buckets.front().parameters.front(), 4);
    EXPECT_EQ(buckets.back().parameters.back(), 0);
  }
  EXPECT_EQ(plan_buckets(arenas, {1, 1}).size(), 5u);
  EXPECT_EQ(plan_buckets(arenas, {1 << 20, 1 << 20}).size(), 1u);
}

TEST(Buckets, TheFirstIsSmall) {
  const std::vector<ArenaLayout> arenas = {layout(std::vector<int64_t>(100, 64), 0)};
  const auto buckets = plan_buckets(arenas, {512, 4096});
  EXPECT_EQ(buckets[0].end - buckets[0].begin, 128);
  EXPECT_EQ(buckets[1].end - buckets[1].begin, 1024);
}

TEST(Buckets, ArenasTakeTurnsByTheNumberOfTheirParameters) {
  ArenaLayout even = layout({64, 64, 64}, 0), odd = layout({64, 64, 64}, 0);
  even.parameters = {0, 2, 4};
  odd.parameters = {1, 3, 5};
  odd.item_size = 2;
  const auto buckets = plan_buckets({even, odd}, {1, 1});
  expect_partition({even, odd}, buckets);
  for (size_t i = 0; i < buckets.size(); ++i)
    EXPECT_EQ(buckets[i].parameters, std::vector<int>{5 - static_cast<int>(i)});
}

// One replica: two scalars, each with its place in a flat gradient.
struct Replica {
  explicit Replica(Device device) : grad(zeros(Dims{128}, DType::kF32, device)) {
    for (int i = 0; i < 2; ++i) {
      params.push_back(full(Dims{1}, Scalar(double(i + 2)), DType::kF32, device));
      set_requires_grad(params[i], true);
      variable(params[i])->accumulator->bind(view_of(grad, Dims{1}, Dims{1}, int64_t{64} * i));
    }
  }
  GradientArena arena() const { return {grad, params, {0, 64}, {0, 1}}; }
  float grad_at(int i) const { return grad.data<float>()[64 * i]; }

  Tensor grad;
  std::vector<Tensor> params;
};

class Reducer : public testing::Test {
 protected:
  void SetUp() override {
    if (device_count(DeviceType::kCPU) < 3) set_cpu_devices(16);
    std::vector<Device> devices;
    for (uint8_t r = 0; r < 3; ++r) {
      devices.push_back({DeviceType::kCPU, r});
      replicas.emplace_back(devices.back());
    }
    std::vector<std::vector<GradientArena>> arenas;
    for (const Replica& replica : replicas) arenas.push_back({replica.arena()});
    reducer = std::make_unique<GradientReducer>(fabric::Mesh(devices), arenas, BucketSizes{4, 4});
  }

  // The loss of a rank: the sum of the chosen parameters.
  Tensor loss(int rank, bool first, bool second) const {
    const auto& p = replicas[rank].params;
    Tensor total;
    if (first) total = sum(p[0], {}, false, {});
    if (second)
      total = total.defined() ? add(total, sum(p[1], {}, false, {}), 1) : sum(p[1], {}, false, {});
    return total;
  }

  std::vector<Replica> replicas;
  std::unique_ptr<GradientReducer> reducer;
};

TEST_F(Reducer, SumsWeightedGradients) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    reducer->clear();
    const std::vector<Tensor> losses = {loss(0, true, true), loss(1, true, true),
                                        loss(2, true, true)};
    const std::vector<double> weights = {1, 10, 100};
    reducer->backward(losses, weights, true);
    for (const Replica& replica : replicas)
      for (int i = 0; i < 2; ++i) EXPECT_EQ(replica.grad_at(i), 111.f);
  }
}

TEST_F(Reducer, AccumulatesWithoutReducing) {
  const std::vector<double> weights = {1, 10, 100};
  reducer->clear();
  reducer->backward(std::vector{loss(0, true, true), loss(1, true, true), loss(2, true, true)},
                    weights, false);
  EXPECT_EQ(replicas[1].grad_at(0), 10.f);
  // The second parameter is used in the first pass alone, and reduced all the same.
  reducer->backward(std::vector{loss(0, true, false), loss(1, true, false), loss(2, true, false)},
                    weights, true);
  for (const Replica& replica : replicas) {
    EXPECT_EQ(replica.grad_at(0), 222.f);
    EXPECT_EQ(replica.grad_at(1), 111.f);
  }
}

TEST_F(Reducer, UnusedParametersAreZero) {
  const std::vector<double> weights = {1, 10, 100};
  reducer->clear();
  reducer->backward(std::vector{loss(0, true, true), loss(1, true, false), loss(2, true, false)},
                    weights, true);
  for (const Replica& replica : replicas) {
    EXPECT_EQ(replica.grad_at(0), 111.f);
    EXPECT_EQ(replica.grad_at(1), 1.f);
    EXPECT_TRUE(grad_of(replica.params[1]).defined());
  }
  reducer->clear();
  reducer->backward(std::vector{loss(0, true, false), loss(1, true, false), loss(2, true, false)},
                    weights, true);
  for (const Replica& replica : replicas) {
    EXPECT_EQ(replica.grad_at(1), 0.f);
    EXPECT_FALSE(grad_of(replica.params[1]).defined());
  }
}

TEST_F(Reducer, RefusesReplicasThatDiffer) {
  std::vector<std::vector<GradientArena>> arenas;
  for (const Replica& replica : replicas) arenas.push_back({replica.arena()});
  arenas[2][0].offsets = {0, 32};
  EXPECT_THROW(GradientReducer(reducer->mesh(), arenas, BucketSizes{}), Error);
}

}  // namespace
}  // namespace vt::collectives
