// Gradients that are written where the leaf keeps them: when that may be, and when it must not.
#include "autograd/gradient_place.h"

#include <gtest/gtest.h>

#include "autograd/accumulate.h"
#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/variable.h"
#include "ops/ops.h"

namespace vt {
namespace {

// Passes its gradient on through memory that it asks the engine for.
class Writer final : public Node {
 public:
  Writer(const Tensor& input, void** wrote) : Node(input.device(), 1, 1), wrote_(wrote) {
    set_edge(0, input);
  }
  const char* name() const override { return "Writer"; }
  void apply(std::span<Tensor> grads, std::span<Tensor> out) override {
    out[0] = gradient_output(0, grads[0].sizes(), grads[0].dtype(), grads[0].device());
    raw::copy_(out[0], grads[0], false);
    *wrote_ = out[0].data();
  }
  void release_saved() override {}

 private:
  void** wrote_;
};

struct Bound {
  Tensor leaf = full(Dims{2}, Scalar(1), DType::kF64, Device{});
  Tensor place = full(Dims{2}, Scalar(7), DType::kF64, Device{});
  void* wrote = nullptr;

  Bound() {
    set_requires_grad(leaf, true);
    (void)gradient_edge(leaf);
    variable(leaf)->accumulator->bind(place);
  }
  Tensor through() {
    Tensor out = alias(leaf);
    set_history(out, Ref<Node>::adopt(new Writer(leaf, &wrote)), 0);
    return out;
  }
  double gradient() const { return grad_of(leaf).data<double>()[1]; }
};

void run(const Tensor& root, BackwardOptions options = {}) { backward({&root, 1}, {}, options); }
Tensor total(const Tensor& t) { return sum(mul(t, Scalar(3)), {}, false, {}); }

TEST(GradientPlace, TheOnlyGradientGoesThere) {
  Bound b;
  const uint32_t version = b.place.version();
  run(total(b.through()));
  EXPECT_EQ(b.wrote, b.place.data());
  EXPECT_EQ(b.gradient(), 3);
  EXPECT_GT(b.place.version(), version);
}

TEST(GradientPlace, AnEarlierGradientIsAddedTo) {
  Bound b;
  run(total(b.through()));
  run(total(b.through()));
  EXPECT_NE(b.wrote, b.place.data());
  EXPECT_EQ(b.gradient(), 6);
}

TEST(GradientPlace, TwoGradientsOfOnePassAreAdded) {
  Bound b;
  run(add(total(b.through()), total(b.through()), Scalar(1)));
  EXPECT_NE(b.wrote, b.place.data());
  EXPECT_EQ(b.gradient(), 6);
}

TEST(GradientPlace, AHookSeesAGradientOfItsOwn) {
  Bound b;
  register_hook(b.leaf, [](const Tensor& grad) { return mul(grad, Scalar(2)); });
  run(total(b.through()));
  EXPECT_NE(b.wrote, b.place.data());
  EXPECT_EQ(b.gradient(), 6);
}

// Runs another pass over the same leaf while the first one holds the place.
TEST(GradientPlace, APassInsideAPassDoesNotWriteOverIt) {
  Bound b;
  const Tensor x = full(Dims{2}, Scalar(1), DType::kF64, Device{});
  set_requires_grad(x, true);
  void* inner = nullptr;
  const Tensor seen = mul(x, Scalar(1));
  register_hook(seen, [&](const Tensor& grad) {
    GradMode recorded(true);
    Tensor out = alias(b.leaf);
    set_history(out, Ref<Node>::adopt(new Writer(b.leaf, &inner)), 0);
    run(sum(mul(out, Scalar(10)), {}, false, {}));
    return grad;
  });
  // Newest first: the writer's node runs before that of `seen`, the leaf's own last.
  const Tensor through = b.through();
  run(sum(mul(add(seen, through, Scalar(1)), Scalar(3)), {}, false, {}));
  EXPECT_EQ(b.wrote, b.place.data());
  EXPECT_NE(inner, b.place.data());
  EXPECT_EQ(b.gradient(), 13);
  EXPECT_EQ(grad_of(b.leaf).data(), b.place.data());
}

TEST(GradientPlace, APassThatFailsGivesItBack) {
  Bound b;
  const Tensor x = full(Dims{2}, Scalar(1), DType::kF64, Device{});
  set_requires_grad(x, true);
  const Tensor seen = mul(x, Scalar(1));
  register_hook(seen, [](const Tensor&) -> Tensor { throw std::runtime_error("hook"); });
  const Tensor through = b.through();
  EXPECT_THROW(run(sum(add(seen, through, Scalar(1)), {}, false, {})), std::runtime_error);
  run(total(b.through()));
  EXPECT_EQ(b.wrote, b.place.data());
  EXPECT_EQ(b.gradient(), 3);
}

TEST(GradientPlace, GradientsThatAreReturnedTouchNoLeaf) {
  Bound b;
  const Tensor root = total(b.through());
  const auto found = gradients({&root, 1}, {}, {&b.leaf, 1}, {}, false);
  EXPECT_NE(b.wrote, b.place.data());
  EXPECT_EQ(found[0].data<double>()[0], 3);
  EXPECT_EQ(b.place.data<double>()[0], 7);
}

TEST(GradientPlace, ARecordedPassMakesItsOwn) {
  Bound b;
  run(total(b.through()), {.create_graph = true});
  EXPECT_NE(b.wrote, b.place.data());
  EXPECT_EQ(b.gradient(), 3);
}

}  // namespace
}  // namespace vt
