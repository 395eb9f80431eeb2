// Operands made for the timing of a product: several sets, so that no run finds its inputs in the
// cache because the run before left them there.
#pragma once
#include <memory>
#include <vector>

#include "kernels/cuda/vendor/product_plan.h"

namespace vt::cuda::cublaslt {

class OperandSets {
 public:
  // Filled with numbers between -1 and 1. Throws OutOfMemory where they do not fit.
  OperandSets(const Key& key, int index);

  int count() const { return static_cast<int>(sets_.size()); }
  const Gemm& operator[](int i) const { return sets_[static_cast<size_t>(i)].gemm; }
  // Writes a byte all over the results of the first set.
  void blot(int byte) const;
  // Of the results of the first set; waits for them.
  uint64_t results() const;

 private:
  struct Release {
    int index;
    void operator()(void* data) const;
  };
  using Block = std::unique_ptr<void, Release>;
  struct Set {
    Gemm gemm;
    Block a, b, out, aux, bias, addend;
  };
  Block block(int64_t elements, int64_t alignment, uint64_t seed, void** data) const;

  Key key_;
  Device device_;
  DType dtype_;
  int64_t out_elements_ = 0, aux_elements_ = 0;
  std::vector<Set> sets_;
};

}  // namespace vt::cuda::cublaslt
