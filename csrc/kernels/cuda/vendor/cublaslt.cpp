// Products through cuBLASLt: a plan of each thread for each shape that it has seen.
#include "kernels/cuda/vendor/cublaslt.h"

#include <memory>
#include <unordered_map>

#include "base/error.h"
#include "device/capture.h"
#include "device/cuda/device.h"
#include "device/launch_error.h"
#include "kernels/cuda/vendor/product_plan.h"
#include "kernels/cuda/vendor/product_tuning.h"
#include "kernels/product_choices.h"

namespace vt::cuda {
namespace {

using namespace cublaslt;

constexpr size_t kMaxPlans = 4096;  // a thread; more shapes than this start over

struct Plans {
  uint64_t generation = 0;  // of the choices that they were made by
  std::unordered_map<Key, std::unique_ptr<Plan>, KeyHash> by_key;
};

// Null where cuBLASLt has no algorithm for the key.
Plan* plan_for(const Key& key, const Gemm& gemm) {
  thread_local Plans t_plans;
  const uint64_t generation = product_choices().generation();
  if (VT_UNLIKELY(t_plans.generation != generation || t_plans.by_key.size() >= kMaxPlans)) {
    t_plans.by_key.clear();
    t_plans.generation = generation;
  }
  if (auto found = t_plans.by_key.find(key); VT_LIKELY(found != t_plans.by_key.end())) {
    Plan* const plan = found->second.get();
    if (VT_LIKELY(!plan || !plan->provisional || any_capture())) return plan;
    t_plans.by_key.erase(found);
  }
  auto plan = std::make_unique<Plan>(key, gemm);
  if (!choose_algorithm(key, *plan)) plan.reset();
  return t_plans.by_key.emplace(key, std::move(plan)).first->second.get();
}

}  // namespace

bool cublaslt_gemm(const Gemm& gemm) {
  // Its GELU takes the fast tanh of the hardware, good to 11 bits: enough for 16-bit floats only.
  if (gemm.epilogue != GemmEpilogue::kNone && item_size(gemm.dtype) > 2) return false;
  DeviceGuard guard(gemm.device.index);
  const Key key = make_key(gemm);
  Plan* plan = plan_for(key, gemm);
  if (!plan && key.epilogue != kEpilogueDefault) return false;
  VT_CHECK(plan, kRuntime, "matmul: cuBLASLt has no algorithm for ", gemm.batch, " products ",
           gemm.m, 'x', gemm.k, " @ ", gemm.k, 'x', gemm.n, " of ", name(gemm.dtype), " on ",
           gemm.device);
  plan->point_to(gemm);
  const Status status = plan->run(gemm);
  if (VT_UNLIKELY(status != kSuccess))
    throw LaunchError(ErrorKind::kRuntime,
                      str("matmul: cublasLtMatmul failed with cuBLAS status ", status_text(status),
                          " for ", gemm.batch, " products ", gemm.m, 'x', gemm.k, " @ ", gemm.k,
                          'x', gemm.n, " of ", name(gemm.dtype), " on ", gemm.device));
  return true;
}

}  // namespace vt::cuda
