// CUDA graphs behind the interface of device/graph.h.
#pragma once
#include <cuda_runtime_api.h>

#include "device/graph.h"

namespace vt::cuda {

class CudaGraph final : public Graph {
 public:
  explicit CudaGraph(int index) : index_(index) {}
  ~CudaGraph() override;

  void begin(std::span<const CaptureLane> lanes, GraphForm form) override;
  void end() override;
  void abandon() noexcept override;
  bool capturing() const override { return capturing_; }
  bool ready() const override { return ready_; }
  void follow() override;
  void replay() override;
  void reset() override;
  size_t node_count() const override { return nodes_; }
  void keep_source() override { keep_source_ = true; }
  void write_dot(const std::string& path) const override;
  Device device() const override;
  std::vector<Device> devices() const override;
  Capture& values() override;

 private:
  struct Lane {
    Stream stream;  // that is, or was, captured
    uint64_t pool = 0;
    bool begun = false;              // its capture has begun
    int64_t pool_bytes = 0;          // that the work needs
    cudaGraph_t graph = nullptr;     // gone once it is executable, unless kept
    cudaGraphExec_t exec = nullptr;  // of a whole graph, only the first lane's
    Stream replayed_on;

    int index() const { return stream.device.index; }
  };

  void check_lanes(std::span<const CaptureLane> lanes) const;
  void start(Lane& lane);
  cudaError_t stop() noexcept;
  cudaError_t instantiate(Lane& lane);
  void check_replayable() const;
  void launch(Stream first);
  void drop() noexcept;

  int index_;
  GraphForm form_ = GraphForm::kWhole;
  std::vector<Lane> lanes_;
  bool capturing_ = false;
  bool ready_ = false;
  bool replayed_ = false;
  bool keep_source_ = false;
  size_t nodes_ = 0;
  std::unique_ptr<Capture> values_;
};

// The number of the capture that the stream takes part in, 0 for none.
uint64_t capture_id(Stream stream);
// What the next work on a stream that is being captured will wait for, and setting that: no more
// and no less. The first is empty-handed (false) where the driver does not say.
bool capture_dependencies(Stream stream, std::vector<cudaGraphNode_t>& nodes);
void set_capture_dependencies(Stream stream, std::span<const cudaGraphNode_t> nodes);

// Throws where this thread captures a graph, and not on the device: a replay would leave out what
// is done there.
void check_captured_device(int index);

// As Backend::write_words.
void write_words(int index, uint64_t* dst, const uint64_t* words, int count);

}  // namespace vt::cuda
