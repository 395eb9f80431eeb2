// The gradient reducer: runs the backward passes of all replicas of a model at the same time and
// sums their gradients, bucket by bucket, while they still run. Knows parameters and flat
// gradients; it neither makes nor steps them.
#pragma once
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "autograd/accumulate.h"
#include "collectives/buckets.h"
#include "collectives/communicator.h"
#include "device/worker.h"

namespace vt::collectives {

// The parameters of one replica that share a flat gradient. Each must be bound to its place there
// (AccumulateGrad::bind).
struct GradientArena {
  Tensor grad;                   // 1-d
  std::vector<Tensor> params;    // leaves that require a gradient
  std::vector<int64_t> offsets;  // of each in grad, in elements
  std::vector<int> numbers;      // of each in the model, in order of registration
};

class GradientReducer {
 public:
  // arenas[rank][i]: laid out alike for all ranks; RuntimeError that names both ranks otherwise.
  // max_blocks: how much of a GPU a reduction may take from backward; 0: as much as makes the
  // reduction itself fastest.
  GradientReducer(const fabric::Mesh& mesh, std::vector<std::vector<GradientArena>> arenas,
                  BucketSizes sizes, int max_blocks = 0);
  ~GradientReducer();

  // One loss a rank: adds weights[r] times its gradient to the gradients of replica r. Unless
  // `reduce` is false, every gradient is then the sum over the replicas, the same bits on all, for
  // work that is queued later; a parameter that no replica used keeps no gradient, and one that
  // only some used counts as zero on the others. After an error no gradient may be used.
  void backward(std::span<const Tensor> losses, std::span<const double> weights, bool reduce);
  // Drops all gradients without touching memory.
  void clear();

  const std::vector<Bucket>& buckets() const { return buckets_; }
  // How many buckets of the last reduced pass were under way on all ranks before backward ended.
  size_t early_buckets() const { return early_buckets_; }
  const fabric::Mesh& mesh() const { return comm_.mesh(); }

 private:
  // Of one replica in one backward pass. Only the thread that runs its backward touches it, but a
  // graph that spans devices has several.
  struct Progress {
    std::mutex mutex;
    std::vector<int> missing;   // by bucket: parameters that have not arrived
    std::vector<bool> arrived;  // by parameter
    size_t next = 0;            // the first bucket that is not under way
  };

  void check_alike(const std::vector<std::vector<GradientArena>>& arenas) const;
  void start_pass();
  void run_backward(std::span<const Tensor> losses, std::span<const Tensor> seeds);
  void parameter_ready(int rank, int number);
  void launch_ready(int rank);
  void arrive(int rank, size_t bucket, bool alone);
  void finish_pass();
  Tensor slice(int rank, const Bucket& bucket) const;

  Communicator comm_;
  std::vector<std::vector<Tensor>> flats_;                      // by rank and arena
  std::vector<std::vector<Ref<AccumulateGrad>>> accumulators_;  // by rank and parameter
  std::vector<Bucket> buckets_;
  std::vector<int> bucket_of_;                       // by parameter
  std::vector<std::vector<Tensor>> slices_;          // by rank and bucket
  std::vector<std::unique_ptr<Progress>> progress_;  // by rank
  bool reducing_ = false;
  size_t early_buckets_ = 0;
  // Threads of its own: a graph that spans devices needs the devices' common workers to be free.
  std::vector<std::unique_ptr<Worker>> workers_;  // by device of the mesh
};

}  // namespace vt::collectives
