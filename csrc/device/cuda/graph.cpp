// Capturing streams into graphs, and replaying those.
#include "device/cuda/graph.h"

#include "base/error.h"
#include "device/cuda/check.h"
#include "device/cuda/device.h"
#include "device/cuda/event.h"
#include "device/cuda/stream.h"
#include "device/cuda/unit_lock.h"
#include "device/deferred.h"

namespace vt::cuda {

uint64_t capture_id(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
#if CUDART_VERSION >= 13000
  const cudaError_t code =
      cudaStreamGetCaptureInfo(handle_of(stream), &status, &id, nullptr, nullptr, nullptr, nullptr);
#else
  const cudaError_t code =
      cudaStreamGetCaptureInfo_v2(handle_of(stream), &status, &id, nullptr, nullptr, nullptr);
#endif
  if (code != cudaSuccess) {  // a capture elsewhere forbids the question: this stream is in none
    (void)cudaGetLastError();
    return 0;
  }
  return status == cudaStreamCaptureStatusNone ? 0 : id;
}

CudaGraph::~CudaGraph() {
  if (capturing_) abandon();
  else drop();
}

Device CudaGraph::device() const { return device_at(index_); }

Capture& CudaGraph::values() {
  VT_CHECK(values_, kRuntime, "CUDAGraph: nothing has been captured");
  return *values_;
}

void CudaGraph::begin(Stream stream, uint64_t pool) {
  run_deferred();
  VT_CHECK(!capturing_, kRuntime, "CUDAGraph.capture_begin: this graph is being captured already");
  VT_CHECK(stream.device == device(), kRuntime, "CUDAGraph.capture_begin: the graph is of ",
           device(), ", the stream of ", stream.device);
  VT_CHECK(stream.handle != nullptr, kRuntime,
           "CUDAGraph.capture_begin: the default stream cannot be captured; make another one "
           "current, as torch.cuda.graph does");
  VT_CHECK(capture_id(stream) == 0, kRuntime,
           "CUDAGraph.capture_begin: the stream is being captured already");
  drop();
  DeviceGuard guard(index_);
  cuda_backend().retain_memory_pool(index_, pool);
  pool_ = pool;
  has_pool_ = true;
  stream_ = stream;
  try {
    cuda_backend().begin_memory_pool(pool, stream);
  } catch (...) {
    drop();
    throw;
  }
  capturing_ = true;
  try {
    values_ = std::make_unique<Capture>();
    // Relaxed: backward passes queue from threads of their own, and the allocator may need a
    // segment. What must not be called is refused by the library (check_not_capturing).
    VT_CUDA(cudaStreamBeginCapture(handle_of(stream), cudaStreamCaptureModeRelaxed));
    values_->enter(capture_id(stream));
  } catch (...) {
    abandon();
    throw;
  }
}

// Ends the capture, whatever has become of it.
cudaError_t CudaGraph::stop(cudaGraph_t* graph) noexcept {
  if (values_) values_->leave();
  const cudaError_t code = cudaStreamEndCapture(handle_of(stream_), graph);
  if (code != cudaSuccess) (void)cudaGetLastError();
  capturing_ = false;
  try {
    pool_bytes_ = cuda_backend().end_memory_pool(pool_, stream_);
  } catch (const Error&) {  // it was not begun
  }
  return code;
}

void CudaGraph::end() {
  VT_CHECK(capturing_, kRuntime, "CUDAGraph.capture_end: nothing is being captured");
  run_deferred();
  DeviceGuard guard(index_);
  cudaGraph_t graph = nullptr;
  cudaError_t code = stop(&graph);
  if (code == cudaSuccess && graph != nullptr) {
    code = cudaGraphGetNodes(graph, nullptr, &nodes_);
    if (code == cudaSuccess) {
      std::lock_guard unit(launch_unit_mutex());
      code = cudaGraphInstantiate(&exec_, graph, 0);
      if (code == cudaSuccess) code = cudaGraphUpload(exec_, handle_of(stream_));
    }
  }
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  if (code == cudaSuccess && exec_ != nullptr) {
    last_replay_ = handle_of(stream_);  // which uploads it
    replayed_ = true;
    return;
  }
  (void)cudaGetLastError();
  drop();
  if (code == cudaErrorStreamCaptureUnjoined)
    fail(ErrorKind::kRuntime,
         "CUDAGraph.capture_end: work was queued on another stream that the captured one has not "
         "waited for; call current_stream.wait_stream(other) before the capture ends");
  if (code == cudaErrorMemoryAllocation)
    fail(ErrorKind::kOutOfMemory, "CUDAGraph.capture_end: ", device(),
         " has no memory left for the graph of ", nodes_, " nodes");
  fail_call("CUDAGraph.capture_end", code == cudaSuccess ? cudaErrorUnknown : code);
}

void CudaGraph::abandon() noexcept {
  if (!capturing_) return;
  try {
    DeviceGuard guard(index_);
    cudaGraph_t graph = nullptr;
    (void)stop(&graph);
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
  } catch (const Error&) {  // the context is lost, and the capture with it
  }
  capturing_ = false;
  drop();
}

void CudaGraph::replay() {
  run_deferred();
  VT_CHECK(exec_ != nullptr, kRuntime,
           "CUDAGraph.replay: nothing has been captured, or the graph was reset");
  check_not_capturing("CUDAGraph.replay", device(), "graphs do not nest; capture its work itself");
  DeviceGuard guard(index_);
  const cudaStream_t stream = current_stream(index_);
  // Replays share the graph's memory, so they follow each other on whatever streams.
  if (replayed_ && last_replay_ != stream)
    order_streams({device(), last_replay_}, {device(), stream});
  values_->prepare_replay();
  cuda_backend().count_memory_pool(index_, pool_, pool_bytes_);
  VT_CUDA(cudaGraphLaunch(exec_, stream));
  last_replay_ = stream;
  replayed_ = true;
}

void CudaGraph::reset() {
  VT_CHECK(!capturing_, kRuntime, "CUDAGraph.reset: the graph is being captured");
  drop();
}

void CudaGraph::drop() noexcept {
  try {
    DeviceGuard guard(index_);
    if (exec_ != nullptr && cudaGraphExecDestroy(exec_) != cudaSuccess) (void)cudaGetLastError();
    exec_ = nullptr;
    values_.reset();
    if (has_pool_) cuda_backend().release_memory_pool(index_, pool_);
  } catch (const Error&) {  // the context is lost
  }
  has_pool_ = false;
  replayed_ = false;
  nodes_ = 0;
}

}  // namespace vt::cuda
