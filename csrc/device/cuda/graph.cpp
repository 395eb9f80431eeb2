// Capturing streams into graphs, and replaying those.
#include "device/cuda/graph.h"

#include <algorithm>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/event.h"
#include "device/cuda/graph_memsets.h"
#include "device/cuda/stream.h"
#include "device/cuda/unit_lock.h"
#include "device/deferred.h"

namespace vt::cuda {
namespace {

Stream current(int index) { return {device_at(index), current_stream(index)}; }

// Who captures what now.
struct Owner {
  const CudaGraph* graph;
  std::thread::id thread;
  std::vector<int> devices;
};
struct Owners {
  std::mutex mutex;
  std::vector<Owner> now;
};

Owners& owners() {
  static auto* const instance = new Owners;
  return *instance;
}

}  // namespace

void check_captured_device(int index) {
  std::string captured;
  {
    std::lock_guard lock(owners().mutex);
    for (const Owner& owner : owners().now) {
      if (owner.thread != std::this_thread::get_id()) continue;
      if (std::ranges::find(owner.devices, index) != owner.devices.end()) return;
      for (int device : owner.devices)
        captured += str(captured.empty() ? "cuda:" : ", cuda:", device);
    }
  }
  if (captured.empty()) return;
  refuse_in_capture(str("work on cuda:", index).c_str(),
                    str("this is a capture of ", captured,
                        " only, so replays would leave it out; name every GPU, as in "
                        "capture(step, devices=[...]) or CUDAGraph([...])")
                        .c_str());
}

CudaGraph::~CudaGraph() {
  if (capturing_) abandon();
  else drop();
}

Device CudaGraph::device() const { return device_at(index_); }

std::vector<Device> CudaGraph::devices() const {
  std::vector<Device> result;
  for (const Lane& lane : lanes_) result.push_back(lane.stream.device);
  if (result.empty()) result.push_back(device());
  return result;
}

Capture& CudaGraph::values() {
  VT_CHECK(values_, kRuntime, "CUDAGraph: nothing has been captured");
  return *values_;
}

void CudaGraph::check_lanes(std::span<const CaptureLane> lanes) const {
  VT_CHECK(!capturing_, kRuntime, "CUDAGraph.capture_begin: this graph is being captured already");
  VT_CHECK(!lanes.empty() && lanes[0].stream.device == device(), kRuntime,
           "CUDAGraph.capture_begin: the graph is of ", device(), ", the first stream is not");
  for (size_t i = 0; i < lanes.size(); ++i) {
    const Stream stream = lanes[i].stream;
    VT_CHECK(stream.handle != nullptr, kRuntime, "CUDAGraph.capture_begin: the default stream of ",
             stream.device,
             " cannot be captured; make another one current, as torch.cuda.graph does");
    VT_CHECK(capture_id(stream) == 0, kRuntime, "CUDAGraph.capture_begin: the stream of ",
             stream.device, " is being captured already");
    for (size_t j = 0; j < i; ++j)
      VT_CHECK(lanes[j].stream.device != stream.device, kRuntime,
               "CUDAGraph.capture_begin: ", stream.device, " is named twice");
  }
}

void CudaGraph::begin(std::span<const CaptureLane> lanes, GraphForm form) {
  run_deferred();
  check_lanes(lanes);
  drop();
  form_ = form;
  try {
    for (const CaptureLane& given : lanes) {
      const int index = given.stream.device.index;
      DeviceGuard guard(index);
      cuda_backend().retain_memory_pool(index, given.pool);
      lanes_.push_back({.stream = given.stream, .pool = given.pool});
    }
    values_ = std::make_unique<Capture>();
    capturing_ = true;
    for (Lane& lane : lanes_) start(lane);
    std::vector<uint64_t> ids;
    for (const Lane& lane : lanes_) ids.push_back(capture_id(lane.stream));
    values_->enter(ids);
    std::vector<int> devices;
    for (const Lane& lane : lanes_) devices.push_back(lane.index());
    std::lock_guard lock(owners().mutex);
    owners().now.push_back({this, std::this_thread::get_id(), std::move(devices)});
  } catch (...) {
    abandon();
    throw;
  }
}

void CudaGraph::start(Lane& lane) {
  DeviceGuard guard(lane.index());
  cuda_backend().begin_memory_pool(lane.pool, lane.stream);
  lane.begun = true;
  if (&lane != &lanes_[0] && form_ == GraphForm::kWhole) {
    order_streams(lanes_[0].stream, lane.stream);
    return;
  }
  // Relaxed: backward passes queue from threads of their own, and the allocator may need a
  // segment. What must not be called is refused by the library (check_not_capturing).
  VT_CUDA(cudaStreamBeginCapture(handle_of(lane.stream), cudaStreamCaptureModeRelaxed));
}

// Ends the capture, whatever has become of it.
cudaError_t CudaGraph::stop() noexcept {
  if (values_) values_->leave();
  {
    std::lock_guard lock(owners().mutex);
    std::erase_if(owners().now, [&](const Owner& owner) { return owner.graph == this; });
  }
  cudaError_t first = cudaSuccess;
  for (Lane& lane : lanes_) {
    if (!lane.begun || (&lane != &lanes_[0] && form_ == GraphForm::kWhole)) continue;
    const cudaError_t code = cudaStreamEndCapture(handle_of(lane.stream), &lane.graph);
    if (code != cudaSuccess) (void)cudaGetLastError();
    if (first == cudaSuccess) first = code;
  }
  capturing_ = false;
  for (Lane& lane : lanes_) {
    if (!lane.begun) continue;
    lane.begun = false;
    try {
      lane.pool_bytes = cuda_backend().end_memory_pool(lane.pool, lane.stream);
    } catch (const Error&) {  // it was not begun
    }
  }
  return first;
}

cudaError_t CudaGraph::instantiate(Lane& lane) {
  if (lane.graph == nullptr) return cudaErrorUnknown;
  DeviceGuard guard(lane.index());
  size_t nodes = 0;
  cudaError_t code = gather_memsets(lane.graph, values_->workspaces());
  if (code == cudaSuccess) code = cudaGraphGetNodes(lane.graph, nullptr, &nodes);
  nodes_ += nodes;
  if (code == cudaSuccess) code = cudaGraphInstantiate(&lane.exec, lane.graph, 0);
  if (code == cudaSuccess) code = cudaGraphUpload(lane.exec, handle_of(lane.stream));
  if (keep_source_) return code;
  (void)cudaGraphDestroy(lane.graph);
  lane.graph = nullptr;
  return code;
}

void CudaGraph::write_dot(const std::string& path) const {
  VT_CHECK(ready_ && lanes_[0].graph != nullptr, kRuntime, "CUDAGraph.debug_dump: ",
           ready_ ? "call enable_debug_mode() before the capture" : "nothing has been captured");
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (lanes_[i].graph == nullptr) continue;
    const std::string name = i == 0 ? path : str(path, '-', i);
    const cudaError_t code =
        cudaGraphDebugDotPrint(lanes_[i].graph, name.c_str(), cudaGraphDebugDotFlagsVerbose);
    if (code != cudaSuccess) (void)cudaGetLastError();
    VT_CHECK(code == cudaSuccess, kRuntime, "CUDAGraph.debug_dump: the driver cannot write ", name,
             ": ", cudaGetErrorString(code));
  }
}

void CudaGraph::end() {
  VT_CHECK(capturing_, kRuntime, "CUDAGraph.capture_end: nothing is being captured");
  run_deferred();
  DeviceGuard guard(index_);
  try {
    if (form_ == GraphForm::kWhole)
      for (size_t i = 1; i < lanes_.size(); ++i) order_streams(lanes_[i].stream, lanes_[0].stream);
  } catch (const Error&) {  // the capture is lost, as its end will say
    (void)cudaGetLastError();
  }
  cudaError_t code = stop();
  if (code == cudaSuccess) {
    std::lock_guard unit(launch_unit_mutex());
    for (Lane& lane : lanes_) {
      if (code != cudaSuccess || (&lane != &lanes_[0] && form_ == GraphForm::kWhole)) break;
      code = instantiate(lane);
    }
  }
  if (code == cudaSuccess) {
    for (Lane& lane : lanes_) lane.replayed_on = lane.stream;  // which uploads it
    replayed_ = ready_ = true;
    return;
  }
  (void)cudaGetLastError();
  const size_t nodes = nodes_;
  drop();
  if (code == cudaErrorStreamCaptureUnjoined)
    fail(ErrorKind::kRuntime,
         "CUDAGraph.capture_end: work was queued on another stream that the captured one has not "
         "waited for; call current_stream.wait_stream(other) before the capture ends");
  if (code == cudaErrorMemoryAllocation)
    fail(ErrorKind::kOutOfMemory, "CUDAGraph.capture_end: ", device(),
         " has no memory left for the graph of ", nodes, " nodes");
  fail_call("CUDAGraph.capture_end", code);
}

void CudaGraph::abandon() noexcept {
  if (!capturing_) return;
  try {
    DeviceGuard guard(index_);
    (void)stop();
  } catch (const Error&) {  // the context is lost, and the capture with it
  }
  capturing_ = false;
  drop();
}

void CudaGraph::check_replayable() const {
  VT_CHECK(ready_, kRuntime, "CUDAGraph.replay: nothing has been captured, or the graph was reset");
  for (const Lane& lane : lanes_)
    check_not_capturing("CUDAGraph.replay", lane.stream.device,
                        "graphs do not nest; capture its work itself");
}

void CudaGraph::follow() {
  run_deferred();
  check_replayable();
  for (const auto& guest : values_->guests()) guest->check_replay();
  if (!replayed_) return;
  // Replays share the graph's memory, so they follow each other on whatever streams.
  for (const Lane& lane : lanes_) order_streams(lane.replayed_on, current(lane.index()));
}

void CudaGraph::replay() {
  follow();
  DeviceGuard guard(index_);
  const Stream first = current(index_);
  const auto& guests = values_->guests();
  std::unique_lock unit(launch_unit_mutex(), std::defer_lock);
  values_->prepare_replay();
  for (const Lane& lane : lanes_)
    cuda_backend().count_memory_pool(lane.index(), lane.pool, lane.pool_bytes);
  if (!guests.empty() || lanes_.size() > 1) unit.lock();
  for (const auto& guest : guests) guest->before_replay();
  const auto note_end = [&] {
    for (const auto& guest : guests) guest->after_replay();
    for (Lane& lane : lanes_) lane.replayed_on = current(lane.index());
    replayed_ = true;
  };
  try {
    launch(first);
  } catch (...) {
    note_end();  // of what has been launched
    throw;
  }
  note_end();
}

void CudaGraph::launch(Stream first) {
  if (form_ == GraphForm::kWhole) {
    for (size_t i = 1; i < lanes_.size(); ++i) order_streams(current(lanes_[i].index()), first);
    VT_CUDA(cudaGraphLaunch(lanes_[0].exec, handle_of(first)));
    for (size_t i = 1; i < lanes_.size(); ++i) order_streams(first, current(lanes_[i].index()));
    return;
  }
  for (const Lane& lane : lanes_) {
    DeviceGuard own(lane.index());
    VT_CUDA(cudaGraphLaunch(lane.exec, current_stream(lane.index())));
  }
}

void CudaGraph::reset() {
  VT_CHECK(!capturing_, kRuntime, "CUDAGraph.reset: the graph is being captured");
  drop();
}

void CudaGraph::drop() noexcept {
  ready_ = replayed_ = false;
  nodes_ = 0;
  for (Lane& lane : lanes_) {
    try {
      DeviceGuard guard(lane.index());
      if (lane.graph != nullptr) (void)cudaGraphDestroy(lane.graph);
      if (lane.exec != nullptr && cudaGraphExecDestroy(lane.exec) != cudaSuccess)
        (void)cudaGetLastError();
    } catch (const Error&) {  // the context is lost
    }
  }
  values_.reset();
  for (Lane& lane : lanes_) {
    try {
      DeviceGuard guard(lane.index());
      cuda_backend().release_memory_pool(lane.index(), lane.pool);
    } catch (const Error&) {}
  }
  lanes_.clear();
}

}  // namespace vt::cuda
