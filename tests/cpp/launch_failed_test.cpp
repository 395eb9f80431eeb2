// What is said of a kernel that could not be started: the operator, and what it was given.
#include "ops/launch_failed.h"

#include <gtest/gtest.h>

#include "autograd/engine.h"
#include "autograd/node.h"
#include "autograd/variable.h"
#include "ops/ops.h"

namespace vt {
namespace {

constexpr char kReason[] = "cuda: add failed on cuda:0: out of something";

std::string text_of(auto&& call) {
  try {
    call();
  } catch (const LaunchError&) {
    return "a launch error, without operands";
  } catch (const Error& error) { return error.what(); }
  return "no error";
}

TEST(LaunchFailed, NamesEveryOperand) {
  const LaunchError error(ErrorKind::kOutOfMemory, kReason);
  const Tensor t = zeros(Dims{2, 3}, DType::kF32, Device{});
  const std::vector<Tensor> list = {zeros(Dims{4}, DType::kI64, Device{}), t};
  EXPECT_EQ(text_of([&] { launch_failed(error, "add", t, Operand(2), Tensor(), list); }),
            std::string(kReason) +
                "; it was called as add(f32[2, 3]@cpu:0, 2, none, i64[4]@cpu:0, f32[2, 3]@cpu:0)");
  EXPECT_THROW(launch_failed(error, "rand"), Error);
  try {
    launch_failed(error, "add", t);
  } catch (const Error& known) { EXPECT_EQ(known.kind(), ErrorKind::kOutOfMemory); }
}

class Unstartable final : public Node {
 public:
  explicit Unstartable(const Tensor& input) : Node(input.device(), 1, 1) { set_edge(0, input); }
  const char* name() const override { return "Unstartable"; }
  void apply(std::span<Tensor>, std::span<Tensor>) override {
    throw LaunchError(ErrorKind::kRuntime, kReason);
  }
  void release_saved() override {}
};

TEST(LaunchFailed, BackwardNamesItsNode) {
  const Tensor leaf = ones(Dims{5}, DType::kF64, Device{});
  set_requires_grad(leaf, true);
  const Tensor out = alias(leaf);
  set_history(out, Ref<Node>::adopt(new Unstartable(leaf)), 0);
  const Tensor root = sum(out, {}, false, {});
  EXPECT_EQ(text_of([&] { backward({&root, 1}, {}, {}); }),
            std::string(kReason) + "; it was called as Unstartable(f64[5]@cpu:0)");
}

}  // namespace
}  // namespace vt
