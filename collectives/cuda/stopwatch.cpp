// One graph over several devices, for timing: captured from a stream of the first device, to which
// streams of the others are forked and joined.
#include "collectives/stopwatch.h"

#include <mutex>

#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/event.h"
#include "device/cuda/stream.h"
#include "device/cuda/unit_lock.h"

namespace vt::collectives::cuda {
namespace {

using vt::cuda::handle_of;

// A stream a device, current on this thread as long as it lives.
class OwnStreams {
 public:
  explicit OwnStreams(const fabric::Mesh& mesh) {
    for (Device device : mesh.devices()) {
      before_.push_back({device, vt::cuda::current_stream(device.index)});
      streams_.push_back(vt::cuda::create_stream(device.index, 0));
      vt::cuda::set_current_stream(streams_.back());
    }
  }
  ~OwnStreams() {
    for (size_t i = 0; i < streams_.size(); ++i) {
      (void)cudaStreamSynchronize(handle_of(streams_[i]));
      vt::cuda::set_current_stream(before_[i]);
      vt::cuda::destroy_stream(streams_[i]);
    }
  }
  Stream first() const { return streams_[0]; }
  void fork() const {
    for (size_t i = 1; i < streams_.size(); ++i) vt::cuda::order_streams(streams_[0], streams_[i]);
  }
  void join() const {
    for (size_t i = 1; i < streams_.size(); ++i) vt::cuda::order_streams(streams_[i], streams_[0]);
  }

 private:
  std::vector<Stream> before_, streams_;
};

class ExecutableGraph {
 public:
  ExecutableGraph(const OwnStreams& streams, const std::function<void()>& call, int calls) {
    VT_CUDA(cudaStreamBeginCapture(handle_of(streams.first()), cudaStreamCaptureModeRelaxed));
    cudaGraph_t graph = nullptr;
    try {
      streams.fork();
      for (int i = 0; i < calls; ++i) call();
      streams.join();
    } catch (...) {
      (void)cudaStreamEndCapture(handle_of(streams.first()), &graph);
      if (graph) (void)cudaGraphDestroy(graph);
      throw;
    }
    VT_CUDA(cudaStreamEndCapture(handle_of(streams.first()), &graph));
    std::lock_guard lock(vt::cuda::launch_unit_mutex());  // it allocates on the devices
    const cudaError_t code = cudaGraphInstantiate(&graph_, graph, 0);
    (void)cudaGraphDestroy(graph);
    VT_CUDA(code);
  }
  ~ExecutableGraph() {
    std::lock_guard lock(vt::cuda::launch_unit_mutex());
    (void)cudaGraphExecDestroy(graph_);
  }
  void launch(Stream stream) const { VT_CUDA(cudaGraphLaunch(graph_, handle_of(stream))); }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace

std::vector<double> time_in_graph(const fabric::Mesh& mesh, const std::function<void()>& call,
                                  int calls, int replays) {
  OwnStreams streams(mesh);
  const vt::cuda::DeviceGuard guard(streams.first().device.index);
  const ExecutableGraph graph(streams, call, calls);
  std::vector<vt::cuda::Event*> marks;
  for (int i = 0; i <= replays; ++i)
    marks.push_back(vt::cuda::create_event(streams.first().device.index, true));
  graph.launch(streams.first());  // warms up
  for (int i = 0; i <= replays; ++i) {
    if (i > 0) graph.launch(streams.first());
    vt::cuda::record_event(*marks[i], streams.first());
  }
  vt::cuda::synchronize_stream(streams.first());
  std::vector<double> seconds;
  for (int i = 1; i <= replays; ++i)
    seconds.push_back(vt::cuda::elapsed_ms(*marks[i - 1], *marks[i]) * 1e-3 / calls);
  for (vt::cuda::Event* mark : marks) vt::cuda::destroy_event(mark);
  return seconds;
}

}  // namespace vt::collectives::cuda
