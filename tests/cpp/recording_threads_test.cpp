// A recording beside threads that do not record: their work runs what is pending at any moment.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "autograd/variable.h"
#include "fuse/recorder.h"
#include "ops/ops.h"

namespace vt {
namespace {

constexpr unsigned kAllPasses = ~0u;

// Work until it goes, none of which is recorded.
class Busy {
 public:
  Busy() {
    thread_ = std::thread([this] {
      const Tensor x = full(Dims{8}, Scalar(1), DType::kF32, Device{});
      while (!stop_.load()) ASSERT_EQ(add(exp(mul(x, Scalar(0))), x).data<float>()[3], 2);
    });
  }
  ~Busy() {
    stop_.store(true);
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST(RecordingThreads, PendingWorkIsLookedAtWhileAnotherThreadRunsIt) {
  const Tensor x = randn(Dims{8, 16}), weight = randn(Dims{32, 16});
  set_requires_grad(weight, true);
  const Tensor wanted = cumsum(gelu(linear(x, weight), "tanh"), 1);
  Busy busy;
  for (int i = 0; i < 300; ++i) {
    fuse::recorder().begin(kAllPasses);
    // The gelu asks for the product before it; the running sum is counted and not put off.
    const Tensor made = cumsum(gelu(linear(x, weight), "tanh"), 1);
    const fuse::Report report = fuse::recorder().end();
    EXPECT_EQ(report.passed_by, 1);
    for (int64_t j = 0; j < made.numel(); ++j)
      ASSERT_NEAR(made.data<float>()[j], wanted.data<float>()[j], 1e-4);
  }
}

}  // namespace
}  // namespace vt
