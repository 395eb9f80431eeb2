// CUDA graphs behind the interface of device/graph.h.
#pragma once
#include <cuda_runtime_api.h>

#include "device/graph.h"

namespace vt::cuda {

class CudaGraph final : public Graph {
 public:
  explicit CudaGraph(int index) : index_(index) {}
  ~CudaGraph() override;

  void begin(Stream stream, uint64_t pool) override;
  void end() override;
  void abandon() noexcept override;
  bool capturing() const override { return capturing_; }
  bool ready() const override { return exec_ != nullptr; }
  void replay() override;
  void reset() override;
  size_t node_count() const override { return nodes_; }
  Device device() const override;
  Capture& values() override;

 private:
  cudaError_t stop(cudaGraph_t* graph) noexcept;
  void drop() noexcept;

  int index_;
  bool capturing_ = false;
  bool has_pool_ = false;
  Stream stream_;  // that is, or was, captured
  uint64_t pool_ = 0;
  int64_t pool_bytes_ = 0;  // that the work needs
  cudaGraphExec_t exec_ = nullptr;
  size_t nodes_ = 0;
  std::unique_ptr<Capture> values_;
  cudaStream_t last_replay_ = nullptr;
  bool replayed_ = false;
};

// The number of the capture that the stream takes part in, 0 for none.
uint64_t capture_id(Stream stream);
// As Backend::write_words.
void write_words(int index, uint64_t* dst, const uint64_t* words, int count);

}  // namespace vt::cuda
