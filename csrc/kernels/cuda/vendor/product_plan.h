// A matrix product as cuBLASLt sees it: the key that tells products apart, and a plan to run one.
#pragma once
#include <bit>
#include <cstring>
#include <optional>
#include <vector>

#include "kernels/cuda/vendor/cublaslt_api.h"
#include "kernels/types.h"

namespace vt::cuda::cublaslt {

// What the heuristic's first algorithm may use, and what a measured one may.
inline constexpr size_t kWorkspaceBytes = size_t{32} << 20;
inline constexpr size_t kMostWorkspaceBytes = size_t{64} << 20;

// Everything that a plan depends on. All fields are of 8 bytes, so that it is compared and hashed
// as memory.
struct Key {
  int64_t device, dtype, m, n, k, batch;
  int64_t a_operation, a_ld, a_stride, b_operation, b_ld, b_stride, out_ld, out_stride;
  int64_t alignments, epilogue, aux_ld, tf32, adds;  // adds: another matrix, see Gemm::addend

  bool operator==(const Key& other) const { return std::memcmp(this, &other, sizeof *this) == 0; }
};

struct KeyHash {
  size_t operator()(const Key& key) const {
    int64_t words[sizeof(Key) / 8];
    std::memcpy(words, &key, sizeof key);
    uint64_t hash = 0;
    for (int64_t word : words)
      hash = (std::rotl(hash, 23) ^ static_cast<uint64_t>(word)) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 32;
  }
};

// cuBLASLt is column-major, so the row-major product is asked for as out^T = b^T a^T: its A is our
// b, its B our a.
Key make_key(const Gemm& gemm);

// Descriptors belong to one thread, because pointers are written into them; the choice of algorithm
// is shared.
class Plan {
 public:
  Plan(const Key& key, const Gemm& gemm);
  ~Plan();
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  // Writes into the descriptor what differs between calls of one plan; before run.
  void point_to(const Gemm& gemm);
  // Up to `count` algorithms that the heuristic names, in its order; none: cuBLASLt has none.
  std::vector<Heuristic> candidates(const Key& key, size_t workspace, int count) const;
  // The algorithm with what it needs, if the library can use it for this product.
  std::optional<Heuristic> checked(const Key& key, const Algorithm& algorithm) const;
  // Queues the product, with `heuristic`, on the current stream.
  Status run(const Gemm& gemm);

  Heuristic heuristic{};
  bool provisional = false;  // chosen where nothing could be timed: to be chosen again elsewhere

 private:
  template <class T>
  void set(DescAttribute attribute, const T& value) {
    check(api().desc_set(desc_, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  }
  static MatrixLayout layout(cudaDataType_t type, int64_t rows, int64_t cols, int32_t operation,
                             int64_t ld, int64_t batch, int64_t stride);

  MatmulDesc desc_ = nullptr;
  MatrixLayout a_ = nullptr, b_ = nullptr, out_ = nullptr;  // a_ is the caller's b: see make_key
};

}  // namespace vt::cuda::cublaslt
