// The backward graph and its engine without Python: depth, sharing, devices, threads, errors, and
// the engine's own table.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "autograd/engine.h"
#include "autograd/node_table.h"
#include "autograd/saved.h"
#include "autograd/variable.h"
#include "device/worker.h"
#include "ops/ops.h"

namespace vt {
namespace {

Tensor number(double value, Device device = {}) {
  return full(Dims{}, Scalar(value), DType::kF64, device);
}

Tensor leaf(double value, Device device = {}) {
  Tensor t = number(value, device);
  set_requires_grad(t, true);
  return t;
}

double value_of(const Tensor& t) { return *t.data<double>(); }
double gradient_of(const Tensor& t) { return value_of(grad_of(t)); }
void run(const Tensor& root, BackwardOptions options = {}) { backward({&root, 1}, {}, options); }

Device cpu(int index) {
  if (device_count(DeviceType::kCPU) < 4) set_cpu_devices(4);
  return {DeviceType::kCPU, static_cast<uint8_t>(index)};
}

std::atomic<int> g_alive{0};

// A node that counts its kind, and passes its gradient on.
class Link final : public Node {
 public:
  explicit Link(const Tensor& input) : Node(input.device(), 1, 1) {
    ++g_alive;
    set_edge(0, input);
  }
  ~Link() override { --g_alive; }
  const char* name() const override { return "Link"; }
  void apply(std::span<Tensor> grads, std::span<Tensor> out) override { out[0] = grads[0]; }
  void release_saved() override {}
};

Tensor linked(const Tensor& input) {
  Tensor out = alias(input);
  set_history(out, Ref<Node>::adopt(new Link(input)), 0);
  return out;
}

TEST(Graph, AMillionDeepGoesWithoutRecursion) {
  g_alive = 0;
  {
    Tensor y = leaf(1);
    for (int i = 0; i < 1'000'000; ++i) y = linked(y);
    EXPECT_EQ(g_alive, 1'000'000);
  }
  EXPECT_EQ(g_alive, 0);
}

TEST(Graph, AMillionDeepRunsBackward) {
  const Tensor x = leaf(1);
  Tensor y = x;
  for (int i = 0; i < 1'000'000; ++i) y = linked(y);
  run(y);
  EXPECT_EQ(gradient_of(x), 1);
}

TEST(Graph, TheEndIsFreedOnWhicheverThreadLetsGo) {
  g_alive = 0;
  Tensor y = leaf(1);
  for (int i = 0; i < 10'000; ++i) y = linked(y);
  std::thread([held = std::move(y)]() mutable { held = Tensor(); }).join();
  EXPECT_EQ(g_alive, 0);
}

TEST(Engine, SharedNodesRunOnceAfterAllTheirConsumers) {
  // 2^40 paths from y to x: only counting consumers makes this end.
  const Tensor x = leaf(1);
  Tensor y = x;
  for (int i = 0; i < 40; ++i) y = add(y, y, 1);
  run(y);
  EXPECT_EQ(gradient_of(x), static_cast<double>(int64_t{1} << 40));
}

TEST(Engine, GradientsAccumulateOverRootsAndCalls) {
  const Tensor x = leaf(3);
  const Tensor roots[] = {mul(x, 2.0), mul(x, x), x};
  backward(roots, {}, {});
  EXPECT_EQ(gradient_of(x), 2 + 6 + 1);
  run(mul(x, 5.0));
  EXPECT_EQ(gradient_of(x), 14);
}

TEST(Engine, AFreedGraphSaysSo) {
  const Tensor x = leaf(3);
  const Tensor y = mul(x, x);
  run(y, {.keep_graph = true});
  run(y);
  try {
    run(y);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("retain_graph=True"), std::string::npos);
  }
}

TEST(Engine, SecondAndThirdDerivatives) {
  const Tensor x = leaf(2);
  Tensor d = mul(mul(x, x), mul(x, x));
  for (const double wanted : {32.0, 48.0, 48.0}) {
    d = gradients({&d, 1}, {}, {&x, 1}, {.keep_graph = true, .create_graph = true}, false)[0];
    EXPECT_EQ(value_of(d), wanted);
  }
}

TEST(Engine, GradientsOfInnerTensors) {
  const Tensor x = leaf(2), y = mul(x, 3.0), z = mul(y, y);
  const Tensor wanted[] = {y, x};
  const std::vector<Tensor> found = gradients({&z, 1}, {}, wanted, {}, false);
  EXPECT_EQ(value_of(found[0]), 12);
  EXPECT_EQ(value_of(found[1]), 36);
  EXPECT_FALSE(grad_of(x).defined());
  const Tensor stranger = leaf(1);
  const Tensor again = mul(x, 2.0);
  EXPECT_THROW(gradients({&again, 1}, {}, {&stranger, 1}, {}, false), Error);
}

TEST(Engine, DevicesRunTheirOwnNodes) {
  const Tensor x = leaf(1, cpu(0));
  Tensor total = number(0);
  for (int i = 0; i < 4; ++i) {
    Tensor y = to_device(x, cpu(i), false);
    for (int k = 0; k < 200; ++k) y = add(y, 1, 1);
    register_hook(y, [i](const Tensor& grad) {
      EXPECT_EQ(grad.device(), cpu(i));
      EXPECT_TRUE(worker(cpu(i)).is_current_thread());
      return Tensor();
    });
    total = add(total, to_device(y, cpu(0), false), 1);
  }
  run(total);
  EXPECT_EQ(gradient_of(x), 4);
}

TEST(Engine, ThreadsMeetOnSharedLeaves) {
  cpu(3);
  const Tensor x = leaf(1);
  constexpr int kThreads = 4, kRounds = 100;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (int round = 0; round < kRounds; ++round) {
        Tensor y = mul(x, 2.0);
        if (round % 2) y = to_device(to_device(y, cpu(t), false), cpu(0), false);
        run(y);
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(gradient_of(x), 2.0 * kThreads * kRounds);
}

TEST(Engine, ThreadsShareOneGraph) {
  const Tensor x = leaf(1);
  Tensor y = x;
  for (int i = 0; i < 50; ++i) y = mul(y, 1.0);
  const Tensor z = to_device(to_device(mul(y, y), cpu(1), false), cpu(0), false);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int round = 0; round < 25; ++round) run(z, {.keep_graph = true});
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(gradient_of(x), 200);
}

TEST(Engine, AnErrorOnADeviceReachesTheCallerAndNothingHangs) {
  for (int round = 0; round < 50; ++round) {
    const Tensor x = leaf(1);
    Tensor total = number(0);
    for (int i = 0; i < 4; ++i) {
      const Tensor y = to_device(mul(x, 2.0), cpu(i), false);
      register_hook(y, [i](const Tensor&) -> Tensor {
        if (i % 2) fail(ErrorKind::kValue, "from device ", i);
        return Tensor();
      });
      total = add(total, to_device(y, cpu(0), false), 1);
    }
    try {
      run(total);
      FAIL();
    } catch (const Error& error) { EXPECT_EQ(error.kind(), ErrorKind::kValue); }
  }
}

TEST(Engine, ABackwardInsideABackwardEnds) {
  const Tensor x = leaf(1), inner = leaf(1);
  const Tensor y = to_device(mul(x, 2.0), cpu(1), false);
  register_hook(y, [&](const Tensor&) {
    const GradMode on(true);
    run(to_device(to_device(mul(inner, 3.0), cpu(1), false), cpu(2), false));
    return Tensor();
  });
  run(to_device(y, cpu(2), false));
  EXPECT_EQ(gradient_of(x), 2);
  EXPECT_EQ(gradient_of(inner), 3);
}

TEST(Saved, VersionsGuardWhatWasSaved) {
  Tensor t = number(2);
  SavedTensor saved;
  saved.save_input(t);
  EXPECT_TRUE(saved.unpack(nullptr).same(t));
  raw::fill_(t, Scalar(3));
  Link node(leaf(1));
  EXPECT_THROW(saved.unpack(&node), Error);
}

TEST(NodeTable, FindsWhatWasAddedWhileItGrows) {
  std::vector<Ref<Node>> nodes;
  const Tensor x = leaf(1);
  for (int i = 0; i < 5000; ++i) nodes.push_back(Ref<Node>::adopt(new Link(x)));
  NodeTable table;
  std::vector<NodeState*> states;
  for (const Ref<Node>& node : nodes) {
    EXPECT_EQ(table.find(node.get()), nullptr);
    const auto [state, added] = table.find_or_add(node.get());
    EXPECT_TRUE(added);
    states.push_back(state);
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    EXPECT_EQ(table.find(nodes[i].get()), states[i]);
    EXPECT_FALSE(table.find_or_add(nodes[i].get()).second);
    EXPECT_EQ(states[i]->node, nodes[i].get());
  }
}

}  // namespace
}  // namespace vt
